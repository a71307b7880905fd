// What the gemm kernels are given: operands, stack, cut and epilogue; where a block finds its tile,
// and how the tile's sums become C.
#pragma once

#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "ops/gemm/gemm.h"
#include "ops/gemm/gemm_epilogue.cuh"

namespace pymodel::PYMODEL_BACKEND {

// The widest copies that an operand's address, strides and extents allow.
enum class Copy : uint8_t {
  vectors,   // 16 bytes
  words,     // 4 bytes
  elements,  // one element at a time, with any strides
};

// A, or B transposed: both have their lines along C and their depth along K.
template <typename T>
struct Operand {
  const T* data;         // (extent, K)
  int64_t extent;        // M of A, N of B
  int64_t stride;        // in elements, from line to line
  int64_t depth_stride;  // from k to k + 1
  bool depth_dense;      // tiles are fetched along K; otherwise along the extent
  Copy copy;             // along that dimension
};

// The leading dimensions, those of extent 1 left out and neighbours merged where all three
// operands allow it.
struct Stack {
  int ndim = 0;
  int64_t shape[kMaxDims], a[kMaxDims], b[kMaxDims], c[kMaxDims];  // strides in elements

  __device__ __forceinline__ int64_t offset(const int64_t* strides, int64_t item) const {
    int64_t sum = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      sum += item % shape[d] * strides[d];
      item /= shape[d];
    }
    return sum;
  }
};

template <typename T>
struct Product {
  int64_t m, n, k;
  int64_t count;       // products in the stack
  int64_t first_item;  // of this launch
  int64_t depth;       // of K that one block sums; blockIdx.y numbers the parts
  bool vectors;        // both operands allow copies of 16 bytes
  float* partials;     // (parts, count, M, N) sums, or null when blocks finish C themselves
  Operand<T> a;        // (M, K)
  Operand<T> b;        // (N, K)
  Stack stack;         // of `count` products
  Epilogue<T> epilogue;
};

// ---------------------------------------------------------------------------------------------
// Device helpers

struct TilePosition {
  int64_t item, row, column;
};

// The tile of this block. Tiles are numbered down a column of kGroup row tiles, then the next
// column: blocks that run at one time share kGroup tiles of A and few of B, which stay in L2.
template <int kRows, int kColumns, typename T>
__device__ __forceinline__ TilePosition locate_tile(const Product<T>& p) {
  constexpr unsigned kGroup = 8;
  const unsigned row_tiles = static_cast<unsigned>((p.m + kRows - 1) / kRows);
  const unsigned column_tiles = static_cast<unsigned>((p.n + kColumns - 1) / kColumns);
  const unsigned tile = blockIdx.x % (row_tiles * column_tiles);
  const unsigned group = tile / (kGroup * column_tiles);
  const unsigned within = tile % (kGroup * column_tiles);
  const unsigned rows_left = row_tiles - group * kGroup;
  const unsigned rows = rows_left < kGroup ? rows_left : kGroup;
  return {p.first_item + blockIdx.x / (row_tiles * column_tiles),
          static_cast<int64_t>(group * kGroup + within % rows) * kRows,
          static_cast<int64_t>(within / rows) * kColumns};
}

// Finishes neighbours of one row of C, or leaves their sums to the second kernel.
template <int kCount, typename T>
__device__ __forceinline__ void finish_or_save(const Product<T>& p, float (&sums)[kCount],
                                               int64_t item, int64_t row, int64_t column) {
  const int64_t left = p.n - column;
  const int count = left < kCount ? static_cast<int>(left) : kCount;
  if (p.partials == nullptr) {
    finish_run(p.epilogue, sums, p.stack.offset(p.stack.c, item), row, column, count);
    return;
  }
  float* const to = p.partials + ((blockIdx.y * p.count + item) * p.m + row) * p.n + column;
  store_run(to, sums, count, count == kCount && p.n % 4 == 0);
}

// A tile of float32 sums in shared memory, through which the threads' fragments become rows: the
// groups of eight columns of a row are permuted by the row, so that the 8 rows x 4 pairs that a
// warp stores at a time (mma's layout) meet every bank once per half warp.
template <int kColumns>
__device__ __forceinline__ int sum_index(int row, int column) {
  return row * kColumns + ((column / 8) ^ (row % 4)) * 8 + column % 8;
}

// The sums of a warp's fragments, in the layout of mma's d, into the tile.
template <int kColumns, int kRowFragments, int kColumnFragments>
__device__ __forceinline__ void store_fragments(
    float* tile, const float (&sums)[kRowFragments][kColumnFragments][4], int row, int column) {
  const int group = threadIdx.x % kWarp / 4, pair = threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < kRowFragments; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnFragments; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Packed<float, 2> two = {{sums[i][j][half * 2], sums[i][j][half * 2 + 1]}};
        const int index =
            sum_index<kColumns>(row + i * 16 + half * 8 + group, column + j * 8 + pair);
        store_packed(tile + index, two);
      }
    }
  }
}

// Runs of a tile's rows, neighbours to neighbouring threads.
template <int kRun, int kRows, int kColumns, int kThreads, typename T>
__device__ __forceinline__ void finish_runs(const Product<T>& p, const float* sums,
                                            const TilePosition& at) {
  // Not unrolled: the epilogue, with every activation, is most of a kernel's code.
#pragma unroll 1
  for (int index = threadIdx.x; index < kRows * kColumns / kRun; index += kThreads) {
    const int row = index / (kColumns / kRun), column = index % (kColumns / kRun) * kRun;
    if (at.row + row >= p.m || at.column + column >= p.n) continue;
    float run[kRun];
    load_run(run, sums + sum_index<kColumns>(row, column), kRun, true);
    finish_or_save(p, run, at.item, at.row + row, at.column + column);
  }
}

// Writes a tile of C from its sums. The caller puts a barrier between the sums and this.
template <int kRows, int kColumns, int kThreads, typename T>
__device__ __forceinline__ void finish_tile(const Product<T>& p, const float* sums,
                                            const TilePosition& at) {
  if (p.partials == nullptr ? p.epilogue.aligned : p.n % 4 == 0) {
    finish_runs<kVectorLength<T>, kRows, kColumns, kThreads>(p, sums, at);
  } else {  // element by element, so that a warp's accesses still lie side by side
    finish_runs<1, kRows, kColumns, kThreads>(p, sums, at);
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers, on the host

// One launch (or, beyond 2^31 tiles, several) over all tiles, products and parts of K.
template <typename T>
void launch_tiles(const Launch& launch, void (*kernel)(const Product<T>), Product<T> p, int side,
                  int threads, size_t shared_bytes) {
  const int64_t tiles = gemm_ceil_divide(p.m, side) * gemm_ceil_divide(p.n, side);
  const int64_t most = 0x7fffffff / tiles;
  const unsigned parts = p.k > p.depth ? blocks_for(p.k, p.depth) : 1u;
  for (p.first_item = 0; p.first_item < p.count; p.first_item += most) {
    const int64_t items = p.count - p.first_item < most ? p.count - p.first_item : most;
    launch(kernel, dim3(static_cast<unsigned>(items * tiles), parts), dim3(threads), shared_bytes,
           p);
  }
}

// gemm_tensor_cuda.cu; float32 as tf32. Large tiles need 16-byte copies.
template <typename T>
void multiply_on_tensor_cores(const Launch& launch, const Product<T>& p, bool large);

// gemm_float_cuda.cu
void multiply_on_scalar_units(const Launch& launch, const Product<float>& p, bool large);

// Few rows (gemm_few_rows_cuda.cu), for products that few_rows_fit accepts.
template <typename T>
bool few_rows_fit(const Product<T>& p);
template <typename T>
GemmPlan few_rows_plan(const Product<T>& p);
template <typename T>
void multiply_few_rows(const Launch& launch, const Product<T>& p);

}  // namespace pymodel::PYMODEL_BACKEND
