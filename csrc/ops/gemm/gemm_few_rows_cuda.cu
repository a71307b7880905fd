// gemm of up to four rows, as in decoding one token: every element of B is used once or a few
// times, so the kernels read B once, in 16-byte loads, and keep tensor cores out of it.
//
//   B dense along K, as an (out, in) weight is: a warp multiplies two columns with all rows of A,
//     its lanes 16 bytes apart along K, and adds its lanes' sums.
//   B dense along N, as an (in, out) weight is: eight lanes read 128 bytes of a row of B, four rows
//     of B to a warp and eight warps to a block; the block adds its 32 sums of a column, and K may
//     be cut into parts for several blocks, since 128 bytes of columns make few blocks.
//
// Limit: the bandwidth of memory, sizeof(T) K N bytes; A stays in the first-level cache. In one
// step a warp has 4 x 2 x 512 bytes of B under way.
#include "ops/gemm/gemm_product.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kWarpColumns = 2;
constexpr int kRowLanes = 8;                       // lanes along a row of B: 128 bytes
constexpr int kDepthLanes = kWarp / kRowLanes;     // rows of B to a warp
constexpr int kBlockDepth = kWarps * kDepthLanes;  // and to a block

// ---------------------------------------------------------------------------------------------
// Kernels

// A and B dense along K. Rows past M repeat the last one; their sums are dropped.
template <int kRows, typename T>
__global__ void __launch_bounds__(kThreads) gemm_few_rows_dot(const Product<T> p) {
  constexpr int kRun = kVectorLength<T>;
  const int lane = threadIdx.x % kWarp;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  const int64_t column = warp * kWarpColumns;
  if (column >= p.n) return;
  const T* rows[kRows];
  const T* columns[kWarpColumns];
#pragma unroll
  for (int i = 0; i < kRows; ++i) rows[i] = p.a.data + (i < p.m ? i : p.m - 1) * p.a.stride;
#pragma unroll
  for (int j = 0; j < kWarpColumns; ++j) {
    columns[j] = p.b.data + (column + j < p.n ? column + j : p.n - 1) * p.b.stride;
  }
  float sums[kRows][kWarpColumns] = {};
#pragma unroll 4
  for (int64_t k = lane * kRun; k < p.k; k += kWarp * kRun) {
    Packed<T, kRun> b[kWarpColumns];
#pragma unroll
    for (int j = 0; j < kWarpColumns; ++j) b[j] = load_packed<kRun>(columns[j] + k);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const Packed<T, kRun> a = load_packed<kRun>(rows[i] + k);
#pragma unroll
      for (int j = 0; j < kWarpColumns; ++j) {
#pragma unroll
        for (int e = 0; e < kRun; ++e) {
          sums[i][j] = fmaf(to_float(a.element[e]), to_float(b[j].element[e]), sums[i][j]);
        }
      }
    }
  }
  // Lane i * kWarpColumns + j finishes element (i, j).
  float mine[1] = {0.0f};
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kWarpColumns; ++j) {
      const float sum = warp_sum(sums[i][j]);
      if (lane == i * kWarpColumns + j) mine[0] = sum;
    }
  }
  const int row = lane / kWarpColumns;
  const int64_t place = column + lane % kWarpColumns;
  if (row < kRows && row < p.m && place < p.n) finish_or_save(p, mine, 0, row, place);
}

// B dense along N, A of any strides.
template <int kRows, typename T>
__global__ void __launch_bounds__(kThreads) gemm_few_rows_axpy(const Product<T> p) {
  constexpr int kRun = kVectorLength<T>;
  constexpr int kColumns = kRowLanes * kRun;
  __shared__ float shared[kWarps][kRows][kColumns];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int run = lane % kRowLanes * kRun;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kColumns;
  const int64_t k_start = blockIdx.y * p.depth;
  const int64_t k_end = k_start + p.depth < p.k ? k_start + p.depth : p.k;
  float sums[kRows][kRun] = {};
  if (first + run < p.n) {
#pragma unroll 4
    for (int64_t k = k_start + warp * kDepthLanes + lane / kRowLanes; k < k_end; k += kBlockDepth) {
      const auto b = load_packed<kRun>(p.b.data + k * p.b.depth_stride + first + run);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int64_t row = i < p.m ? i : p.m - 1;
        const float a = to_float(p.a.data[row * p.a.stride + k * p.a.depth_stride]);
#pragma unroll
        for (int e = 0; e < kRun; ++e) sums[i][e] = fmaf(a, to_float(b.element[e]), sums[i][e]);
      }
    }
  }
  // First the warp's rows of B, then the warps, in their order.
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int e = 0; e < kRun; ++e) {
#pragma unroll
      for (int step = kRowLanes; step < kWarp; step *= 2) {
        sums[i][e] += __shfl_xor_sync(kFullMask, sums[i][e], step);
      }
      if (lane < kRowLanes) shared[warp][i][run + e] = sums[i][e];
    }
  }
  __syncthreads();
  for (int index = threadIdx.x; index < kRows * kColumns; index += kThreads) {
    const int row = index / kColumns, column = index % kColumns;
    if (row >= p.m || first + column >= p.n) continue;
    float sum[1] = {0.0f};
    for (int w = 0; w < kWarps; ++w) sum[0] += shared[w][row][column];
    finish_or_save(p, sum, 0, row, first + column);
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <int kRows, typename T>
void launch_few_rows(const Launch& launch, const Product<T>& p) {
  if (p.b.depth_dense) {
    const unsigned blocks = blocks_for(p.n, kWarps * kWarpColumns);
    launch(gemm_few_rows_dot<kRows, T>, dim3(blocks), dim3(kThreads), 0, p);
  } else {
    const unsigned blocks = blocks_for(p.n, kRowLanes * kVectorLength<T>);
    launch(gemm_few_rows_axpy<kRows, T>, dim3(blocks, blocks_for(p.k, p.depth)), dim3(kThreads), 0,
           p);
  }
}

}  // namespace

template <typename T>
bool few_rows_fit(const Product<T>& p) {
  // A single column would leave all but one warp idle; tiles cut its depth into parts.
  if (p.count != 1 || p.m > kGemmFewRows || p.n < kRowLanes * kVectorLength<T> || p.k == 0 ||
      p.b.copy != Copy::vectors) {
    return false;
  }
  return !p.b.depth_dense || (p.a.depth_dense && p.a.copy == Copy::vectors);
}

template <typename T>
GemmPlan few_rows_plan(const Product<T>& p) {
  if (p.b.depth_dense) return {false, 1, p.k};
  constexpr DType kType = sizeof(T) == 4 ? DType::float32 : DType::bfloat16;
  static_assert(gemm_few_rows_columns(kType) == kRowLanes * kVectorLength<T>,
                "the plan counts the kernel's blocks");
  return gemm_few_rows_plan(kType, p.n, p.k);
}

template <typename T>
void multiply_few_rows(const Launch& launch, const Product<T>& p) {
  if (p.m == 1) return launch_few_rows<1>(launch, p);
  launch_few_rows<kGemmFewRows>(launch, p);
}

#define PYMODEL_INSTANTIATE(T)                        \
  template bool few_rows_fit(const Product<T>&);      \
  template GemmPlan few_rows_plan(const Product<T>&); \
  template void multiply_few_rows(const Launch&, const Product<T>&);
PYMODEL_INSTANTIATE(float)
PYMODEL_INSTANTIATE(__half)
PYMODEL_INSTANTIATE(__nv_bfloat16)
#undef PYMODEL_INSTANTIATE

}  // namespace pymodel::PYMODEL_BACKEND
