// CUDA rotary embeddings. A thread takes N pairs of a token and turns them in several heads, so
// that the angles are loaded once for all of them; the threads along x share a head's pairs, those
// along y the heads, those along z are neighbouring tokens.
#include "cuda/launch.h"
#include "cuda/numeric.cuh"
#include "ops/rotary/rotary.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kHeads = 4;     // that a thread turns, where there are so many
constexpr unsigned kTokens = 64;  // of a block, which may be no longer along z

// ---------------------------------------------------------------------------------------------
// Device helpers

template <int N, typename T>
__device__ __forceinline__ void load_floats(const T* from, float* values) {
  constexpr int V = N < kVectorLength<T> ? N : kVectorLength<T>;
#pragma unroll
  for (int i = 0; i < N; i += V) {
    const Packed<T, V> loaded = load_packed<V>(from + i);
#pragma unroll
    for (int j = 0; j < V; ++j) values[i + j] = to_float(loaded.element[j]);
  }
}

template <int N, typename T>
__device__ __forceinline__ void store_floats(T* to, const float* values) {
  Packed<T, N> rounded;
#pragma unroll
  for (int i = 0; i < N; ++i) rounded.element[i] = from_float<T>(values[i]);
  store_packed<N>(to, rounded);
}

// Pairs i to i + N of a head: x, y (head_dim). Read before they are written: y may be x.
template <int N, bool interleaved, typename T>
__device__ __forceinline__ void turn_pairs(const T* x, T* y, int64_t i, int64_t half,
                                           const float (&cos)[N], const float (&sin)[N]) {
  const int64_t low = interleaved ? 2 * i : i, high = interleaved ? low + N : i + half;
  float in[2 * N], out[2 * N];
  load_floats<N>(x + low, in);
  load_floats<N>(x + high, in + N);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const int first = interleaved ? 2 * k : k, second = interleaved ? 2 * k + 1 : N + k;
    out[first] = in[first] * cos[k] - in[second] * sin[k];
    out[second] = in[second] * cos[k] + in[first] * sin[k];
  }
  store_floats<N>(y + low, out);
  store_floats<N>(y + high, out + N);
}

// ---------------------------------------------------------------------------------------------
// Kernels

// A token whose position is no row of the tables is reported, and what would be turned is zero.
template <typename T, int N, bool interleaved>
__global__ void __launch_bounds__(kThreads) rotary_kernel(__grid_constant__ const Rotary args) {
  const int64_t number = int64_t{blockIdx.x} * blockDim.z + threadIdx.z;
  const int64_t length = args.x.shape[1], heads = args.x.shape[2], head_dim = args.x.shape[3];
  const int64_t half = args.cos.shape[1];
  if (number >= args.x.shape[0] * length) return;
  const int64_t batch = number / length, token = number % length;
  const int64_t position = position_of(args, batch, token);
  const bool valid = position >= 0 && position < args.cos.shape[0];
  if (!valid && threadIdx.x == 0 && threadIdx.y == 0) report_fault(args.invalid, number);
  const T* x = data_as<const T>(args.x) + batch * args.x.strides[0] + token * args.x.strides[1];
  T* y = data_as<T>(args.y) + batch * args.y.strides[0] + token * args.y.strides[1];

  for (int64_t i = int64_t{threadIdx.x} * N; i < half; i += int64_t{blockDim.x} * N) {
    float cos[N] = {}, sin[N] = {};
    if (valid) {
      load_floats<N>(data_as<const float>(args.cos) + position * args.cos.strides[0] + i, cos);
      load_floats<N>(data_as<const float>(args.sin) + position * args.sin.strides[0] + i, sin);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) sin[k] = args.opposite ? -sin[k] : sin[k];
    for (int64_t head = threadIdx.y; head < heads; head += blockDim.y) {
      turn_pairs<N, interleaved>(x + head * args.x.strides[2], y + head * args.y.strides[2], i,
                                 half, cos, sin);
    }
  }
  if (x == y) return;
  for (int64_t head = threadIdx.y; head < heads; head += blockDim.y) {
    for (int64_t i = 2 * half + threadIdx.x; i < head_dim; i += blockDim.x) {
      y[head * args.y.strides[2] + i] = x[head * args.x.strides[2] + i];
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

// Whether every head of a tensor, or row of a table, begins at a multiple of 16 bytes.
bool aligned_rows(const TensorView& view) {
  bool aligned = aligned_16(view.data);
  for (int d = 0; d + 1 < view.ndim; ++d) {
    aligned = aligned && (view.shape[d] == 1 || aligned_16(view.strides[d], view.dtype));
  }
  return aligned;
}

// The smallest power of two that is at least `count`, up to `most`.
unsigned power_of_two(int64_t count, unsigned most) {
  unsigned result = 1;
  while (result < most && result < count) result *= 2;
  return result;
}

template <typename T, int N>
void turn(const Rotary& args, const Launch& launch) {
  const unsigned along = power_of_two(args.cos.shape[1] / N, 32);
  const unsigned heads = power_of_two((args.x.shape[2] + kHeads - 1) / kHeads, kThreads / along);
  const unsigned tokens = kThreads / along / heads;
  const dim3 block(along, heads, tokens < kTokens ? tokens : kTokens);
  const unsigned grid = blocks_for(args.x.shape[0] * args.x.shape[1], block.z);
  launch(args.interleaved ? rotary_kernel<T, N, true> : rotary_kernel<T, N, false>, grid, block, 0,
         args);
}

}  // namespace

void rotary(const Rotary& args, const Execution& on) {
  if (numel(args.x) == 0) return;
  const Launch launch("rotary", on, {&args.x, &args.cos, &args.position});
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int N = kVectorLength<T>;
    const bool packs = args.cos.shape[1] % N == 0 && aligned_rows(args.x) && aligned_rows(args.y) &&
                       aligned_rows(args.cos) && aligned_rows(args.sin);
    if (packs) {
      turn<T, N>(args, launch);
    } else {
      turn<T, 1>(args, launch);
    }
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
