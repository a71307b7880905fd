// CUDA softmax and log_softmax, forward: x is read once and y written once, at the speed of memory.
// Rows that do not fit into the registers of a block, and slices across memory, are read twice.
#include "cuda/softmax_row.cuh"
#include "ops/softmax/softmax.h"
#include "ops/softmax/softmax_slices.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kShare = 32;  // elements of a row in the registers of a thread

// What turns x into y once m and s are known.
struct Normalizer {
  float shift;   // m
  float factor;  // 1 / s, or log(s) for log_softmax
  bool masked;   // all of x is -infinity
  bool logarithm;

  __device__ __forceinline__ Normalizer(SoftmaxSum total, bool logarithm)
      : shift(softmax_shift(total.maximum)), masked(total.sum == 0.0f), logarithm(logarithm) {
    factor = logarithm ? logf(total.sum) : 1.0f / total.sum;
  }
  // From x - m, or from exp(x - m) where that is at hand.
  __device__ __forceinline__ float of_centred(float centred) const {
    return masked ? -INFINITY : centred - factor;
  }
  __device__ __forceinline__ float of_exponential(float exponential) const {
    return masked ? 0.0f : exponential * factor;
  }
  __device__ __forceinline__ float operator()(float x) const {
    return logarithm ? of_centred(x - shift) : of_exponential(expf(x - shift));
  }
};

// Writes a row of y from x, cut where y has its multiples of 16 bytes.
template <typename T>
__device__ __forceinline__ void normalize_row(const T* x, T* y, int64_t classes,
                                              const Normalizer& normalizer) {
  const Row<const T> from{x, classes, lead_of(y)};
  const Row<T> to{y, classes, lead_of(y)};
  const int64_t packs = pack_count(to);
  for (int64_t pack = threadIdx.x; pack < packs; pack += blockDim.x) {
    float values[kVectorLength<T>];
    load_pack(from, pack, -INFINITY, values);
#pragma unroll
    for (float& value : values) value = normalizer(value);
    store_pack(to, pack, values);
  }
}

// ---------------------------------------------------------------------------------------------
// Kernels

// x, y (rows, classes), classes <= kShare * blockDim.x.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_row_kernel(Slices<const T> x, Slices<T> y, int64_t rows, int64_t classes,
                       bool logarithm) {
  __shared__ float scratch[kWarp];
  const int64_t row = own_row();
  if (row >= rows) return;  // rows share a block only where none of them has a barrier
  float values[kShare];
  load_share(Row<const T>{x.row(row), classes}, -INFINITY, values);

  float peak = -INFINITY;
#pragma unroll
  for (int i = 0; i < kShare; ++i) peak = fmaxf(peak, values[i]);
  SoftmaxSum total;
  total.maximum = block_max(peak, scratch);
  const float shift = softmax_shift(total.maximum);
#pragma unroll
  for (int i = 0; i < kShare; ++i) {
    values[i] -= shift;
    const float exponential = expf(values[i]);
    if (!logarithm) values[i] = exponential;
    total.sum += exponential;
  }
  total.sum = block_sum(total.sum, scratch);

  const Normalizer normalizer(total, logarithm);
  // A row that cannot be written in the packs it was read in is read again, from the caches.
  if (lead_of(y.row(row)) != 0) return normalize_row(x.row(row), y.row(row), classes, normalizer);
#pragma unroll
  for (int i = 0; i < kShare; ++i) {
    values[i] = logarithm ? normalizer.of_centred(values[i]) : normalizer.of_exponential(values[i]);
  }
  store_share(Row<T>{y.row(row), classes}, values);
}

// x, y (rows, classes), a block a row.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_long_row_kernel(Slices<const T> x, Slices<T> y, int64_t classes, bool logarithm) {
  __shared__ float scratch[kWarp];
  const T* from = x.row(blockIdx.x);
  const SoftmaxSum total = softmax_sum(Row<const T>{from, classes}, scratch);
  normalize_row(from, y.row(blockIdx.x), classes, Normalizer(total, logarithm));
}

// x, y (outer, classes, inner), blocks of block_for_slices().
template <typename T>
__global__ void softmax_slice_kernel(Slices<const T> x, Slices<T> y, int64_t classes, int64_t inner,
                                     bool logarithm) {
  __shared__ float maxima[kMaxSplits][kTile], sums[kMaxSplits][kTile];
  const SlicePosition at = own_slice(inner);
  const T* from = x.row(at.outer) + at.inner;
  SoftmaxSum own;
  for (int64_t c = threadIdx.y; at.inside && c < classes; c += blockDim.y) {
    const float value[1] = {to_float(from[c * x.class_stride])};
    add(own, value);
  }
  maxima[threadIdx.y][threadIdx.x] = own.maximum;
  sums[threadIdx.y][threadIdx.x] = own.sum;
  __syncthreads();

  SoftmaxSum total;
  for (unsigned i = 0; i < blockDim.y; ++i) {
    total.maximum = fmaxf(total.maximum, maxima[i][threadIdx.x]);
  }
  const float shift = softmax_shift(total.maximum);
  for (unsigned i = 0; i < blockDim.y; ++i) {
    total.sum += sums[i][threadIdx.x] * expf(maxima[i][threadIdx.x] - shift);
  }
  const Normalizer normalizer(total, logarithm);
  T* to = y.row(at.outer) + at.inner;
  for (int64_t c = threadIdx.y; at.inside && c < classes; c += blockDim.y) {
    to[c * y.class_stride] = from_float<T>(normalizer(to_float(from[c * x.class_stride])));
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T>
void forward(const SoftmaxForward& args, const Launch& launch) {
  const int64_t outer = args.x.shape[0], classes = args.x.shape[1], inner = args.x.shape[2];
  const auto x = slices_of<const T>(args.x);
  const auto y = slices_of<T>(args.y);
  if (inner != 1) {
    launch(softmax_slice_kernel<T>, blocks_for(outer * tiles_of(inner), 1),
           block_for_slices(classes), 0, x, y, classes, inner, args.logarithm);
    return;
  }
  if (classes > kShare * kMaxThreads) {
    launch(softmax_long_row_kernel<T>, blocks_for(outer, 1), dim3(kMaxThreads), 0, x, y, classes,
           args.logarithm);
    return;
  }
  const dim3 block = block_for_row(classes, kShare, kMaxThreads);
  launch(softmax_row_kernel<T>, blocks_for(outer, block.y), block, 0, x, y, outer, classes,
         args.logarithm);
}

}  // namespace

void softmax_forward(const SoftmaxForward& args, const Execution& on) {
  if (numel(args.x) == 0) return;
  const Launch launch("softmax", on, {&args.x, &args.y});
  dispatch_floating(args.x.dtype, [&](auto type) { forward<decltype(type)>(args, launch); });
}

}  // namespace pymodel::PYMODEL_BACKEND
