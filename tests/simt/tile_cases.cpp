// Loops over tiles in shared memory, whole and with one thing left out.
#include <cmath>

#include "harness.h"

namespace pymodel::simt::tests {
namespace {

enum class Defect {
  none,
  first_barrier,   // between writing a tile and reading it
  second_barrier,  // between reading a tile and writing the next
  wait,            // for the asynchronous copies
  late_wait,       // which leaves one group too many under way
  commit,
};

// ---------------------------------------------------------------------------------------------
// Plain copies: y[i] = sum over tiles of the tile's element i + 37, cyclically, in threads i

template <Defect defect>
__global__ void tile_kernel(const float* x, int tiles, float* y) {
  float* shared = ptx::dynamic_shared<float>();
  const int n = blockDim.x, i = threadIdx.x;
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    shared[i] = x[tile * n + i];
    if (defect != Defect::first_barrier) __syncthreads();
    sum += shared[(i + 37) % n];
    if (defect != Defect::second_barrier) __syncthreads();
  }
  y[i] = sum;
}

template <Defect defect>
Outcome run_tiles() {
  constexpr int threads = 128, tiles = 6;
  std::vector<float> x(threads * tiles);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * i % 101);
  const DeviceArray<float> on_device(x);
  DeviceArray<float> y(threads);
  SIMT_TRY(launch(tile_kernel<defect>, 1, threads, threads * sizeof(float), on_device.data(), tiles,
                  y.data()));
  const std::vector<float> got = y.host();
  for (int i = 0; i < threads; ++i) {
    float sum = 0;
    for (int tile = 0; tile < tiles; ++tile) sum += x[tile * threads + (i + 37) % threads];
    if (!(got[i] == sum)) return "wrong: y[" + std::to_string(i) + "]";
  }
  return "ok";
}

SIMT_CASE(tiles) { return run_tiles<Defect::none>(); }
SIMT_CASE(tiles_without_first_barrier) { return run_tiles<Defect::first_barrier>(); }
SIMT_CASE(tiles_without_second_barrier) { return run_tiles<Defect::second_barrier>(); }

// ---------------------------------------------------------------------------------------------
// A product on matrix instructions, fed by a pipeline of asynchronous copies

constexpr int kTile = 64, kDepth = 32, kStages = 2, kThreads = 128;
constexpr int kStageElements = 2 * kTile * kDepth;  // a (64, 32), then b (32, 64)

// Byte offset of the 16-byte chunk in a row of `chunks`, spread so that the eight rows of an
// 8 x 8 matrix lie in different banks.
__device__ int chunk_offset(int row, int chunk, int chunks) {
  const int spread = chunks == 8 ? row % 8 : row / 2 % 4;
  return (row * chunks + (chunk ^ spread)) * 16;
}

// Tile `step` of a (m, k) and b (k, n), both dense, into a stage.
template <typename T>
__device__ void load_stage(const T* a, const T* b, int n, int k, int step, unsigned char* stage) {
  constexpr int a_chunks = kDepth / 8, b_chunks = kTile / 8;
  unsigned char* b_stage = stage + kTile * kDepth * sizeof(T);
  for (int i = threadIdx.x; i < kTile * a_chunks; i += kThreads) {
    const int row = i / a_chunks, chunk = i % a_chunks;
    const T* from = a + static_cast<size_t>(blockIdx.y * kTile + row) * k + step * kDepth;
    ptx::cp_async_16(stage + chunk_offset(row, chunk, a_chunks), from + chunk * 8, true);
  }
  for (int i = threadIdx.x; i < kDepth * b_chunks; i += kThreads) {
    const int row = i / b_chunks, chunk = i % b_chunks;
    const T* from = b + static_cast<size_t>(step * kDepth + row) * n + blockIdx.x * kTile;
    ptx::cp_async_16(b_stage + chunk_offset(row, chunk, b_chunks), from + chunk * 8, true);
  }
}

// Each of four warps owns a (32, 32) part of the tile: sums (2, 4) of 16 x 8.
template <typename T>
__device__ void multiply_stage(const unsigned char* stage, float (&sums)[2][4][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row0 = warp / 2 * 32, column0 = warp % 2 * 32;
  const unsigned char* b_stage = stage + kTile * kDepth * sizeof(T);
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[2][4], b[4][2];
    for (int i = 0; i < 2; ++i) {
      const int row = row0 + 16 * i + lane % 16, chunk = k / 8 + lane / 16;
      ptx::ldmatrix_x4(a[i], stage + chunk_offset(row, chunk, kDepth / 8));
    }
    for (int j = 0; j < 4; ++j) {
      const int row = k + lane % 16, chunk = column0 / 8 + j;
      ptx::ldmatrix_x2_trans(b[j], b_stage + chunk_offset(row, chunk, kTile / 8));
    }
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 4; ++j) ptx::mma_16x8x16<T>(sums[i][j], a[i], b[j]);
    }
  }
}

// c (m, n) = a (m, k) b (k, n); all sizes are multiples of the tile's.
template <typename T, Defect defect>
__global__ void product_kernel(const T* a, const T* b, float* c, int n, int k) {
  auto* shared = ptx::dynamic_shared<unsigned char>();
  const int steps = k / kDepth;
  auto stage_of = [&](int step) { return shared + step % kStages * kStageElements * sizeof(T); };
  float sums[2][4][4] = {};
  load_stage(a, b, n, k, 0, stage_of(0));
  if (defect != Defect::commit) ptx::cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load_stage(a, b, n, k, step + 1, stage_of(step + 1));
    ptx::cp_async_commit();
    if (defect == Defect::late_wait) {
      ptx::cp_async_wait<2>();
    } else if (defect != Defect::wait) {
      ptx::cp_async_wait<1>();
    }
    if (defect != Defect::first_barrier) __syncthreads();
    multiply_stage<T>(stage_of(step), sums);
    if (defect != Defect::second_barrier) __syncthreads();
  }
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) {
      for (int v = 0; v < 4; ++v) {
        const int row = blockIdx.y * kTile + warp / 2 * 32 + 16 * i + lane / 4 + v / 2 * 8;
        const int column = blockIdx.x * kTile + warp % 2 * 32 + 8 * j + 2 * (lane % 4) + v % 2;
        c[static_cast<size_t>(row) * n + column] = sums[i][j][v];
      }
    }
  }
}

template <typename T, Defect defect>
Outcome run_product() {
  constexpr int m = 128, n = 64, k = 160;
  std::vector<T> a(m * k), b(k * n);
  for (int i = 0; i < m * k; ++i) a[i] = T(static_cast<float>(i * 7 % 23 - 11) / 8);
  for (int i = 0; i < k * n; ++i) b[i] = T(static_cast<float>(i * 5 % 19 - 9) / 16);
  const DeviceArray<T> a_device(a), b_device(b);
  DeviceArray<float> c(m * n);
  SIMT_TRY(launch(product_kernel<T, defect>, dim3(n / kTile, m / kTile), kThreads,
                  kStages * kStageElements * sizeof(T), a_device.data(), b_device.data(), c.data(),
                  n, k));
  const std::vector<float> got = c.host();
  double worst = 0;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int l = 0; l < k; ++l) sum += double(float(a[i * k + l])) * float(b[l * n + j]);
      const double error = std::fabs(got[i * n + j] - sum);
      worst = error <= worst ? worst : error;  // NaN wins
    }
  }
  return worst <= 1e-4 ? "ok" : "wrong: error " + std::to_string(worst);
}

}  // namespace

SIMT_CASE(product_bfloat16) { return run_product<__nv_bfloat16, Defect::none>(); }
SIMT_CASE(product_half) { return run_product<__half, Defect::none>(); }
SIMT_CASE(product_without_first_barrier) { return run_product<__half, Defect::first_barrier>(); }
SIMT_CASE(product_without_second_barrier) { return run_product<__half, Defect::second_barrier>(); }
SIMT_CASE(product_without_wait) { return run_product<__half, Defect::wait>(); }
SIMT_CASE(product_with_late_wait) { return run_product<__half, Defect::late_wait>(); }
SIMT_CASE(product_without_commit) { return run_product<__half, Defect::commit>(); }

}  // namespace pymodel::simt::tests
