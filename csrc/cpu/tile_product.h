// Products of small dense float32 tiles that are in cache already, without packing.
//
// A is read one element at a time and broadcast, so its layout is free: row by row, or transposed.
// B and C need only rows of whole vectors. Fused kernels build on it, whose tiles are made in
// cache and used a few times: packing them as gemm does (cpu/micro_gemm.h) would not pay.
#pragma once

#include "cpu/micro_gemm.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Rows and vectors of C that stay in registers: 6 x 4 of 32, or 6 x 2 of 16. Wide blocks load least
// for an fma: 4 vectors of B and 6 elements of A for 24, which leaves the first-level cache room.
constexpr int kBlockRows = 6;
#ifdef PYMODEL_AVX512
constexpr int kBlockVecs = 4;
#else
constexpr int kBlockVecs = 2;
#endif

template <bool transposed, int rows, int vecs>
static void tile_product_block(int64_t depth, const float* __restrict a, int64_t lda,
                               const float* __restrict b, int64_t ldb, float* __restrict c,
                               int64_t ldc, bool accumulate) {
  Vec sums[rows][vecs];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vecs; ++j) sums[i][j] = zero();
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec row[vecs];
#pragma GCC unroll 4
    for (int j = 0; j < vecs; ++j) row[j] = load(b + k * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vec factor = broadcast(transposed ? a[k * lda + i] : a[i * lda + k]);
#pragma GCC unroll 4
      for (int j = 0; j < vecs; ++j) sums[i][j] = fma(factor, row[j], sums[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vecs; ++j) {
      float* out = c + i * ldc + j * kLanes;
      store(out, accumulate ? sums[i][j] + load(out) : sums[i][j]);
    }
  }
}

// One column of blocks. A block of few rows and vectors waits for its own sums; 8 rows at the end
// are therefore taken as 4 + 4, not as 6 + 2.
template <bool transposed, int vecs>
static void tile_product_strip(int64_t rows, int64_t depth, const float* a, int64_t lda,
                               const float* b, int64_t ldb, float* c, int64_t ldc,
                               bool accumulate) {
  const int64_t step = transposed ? 1 : lda;
  int64_t i = 0;
  for (; rows - i >= kBlockRows && rows - i != 8; i += kBlockRows) {
    tile_product_block<transposed, kBlockRows, vecs>(depth, a + i * step, lda, b, ldb, c + i * ldc,
                                                     ldc, accumulate);
  }
  for (; rows - i >= 4; i += 4) {
    tile_product_block<transposed, 4, vecs>(depth, a + i * step, lda, b, ldb, c + i * ldc, ldc,
                                            accumulate);
  }
  if (i < rows) {
    tile_product_block<transposed, 2, vecs>(depth, a + i * step, lda, b, ldb, c + i * ldc, ldc,
                                            accumulate);
  }
}

// c (rows, columns; row stride ldc) = or += A (rows, depth) * b (depth, columns; row stride ldb),
// where A[i, k] = a[i * lda + k], or a[k * lda + i] when transposed. rows is even, columns a
// multiple of kLanes.
template <bool transposed>
static void tile_product(int64_t rows, int64_t depth, int64_t columns, const float* a, int64_t lda,
                         const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  int64_t j = 0;
  for (; columns - j >= kBlockVecs * kLanes; j += kBlockVecs * kLanes) {
    tile_product_strip<transposed, kBlockVecs>(rows, depth, a, lda, b + j, ldb, c + j, ldc,
                                               accumulate);
  }
  switch ((columns - j) / kLanes) {
#ifdef PYMODEL_AVX512
    case 3:
      return tile_product_strip<transposed, 3>(rows, depth, a, lda, b + j, ldb, c + j, ldc,
                                               accumulate);
    case 2:
      return tile_product_strip<transposed, 2>(rows, depth, a, lda, b + j, ldb, c + j, ldc,
                                               accumulate);
#endif
    case 1:
      return tile_product_strip<transposed, 1>(rows, depth, a, lda, b + j, ldb, c + j, ldc,
                                               accumulate);
    default:
      return;
  }
}

// Transposes rows of whole vectors: to[j * ldt + i] = from[i * ldf + j]; both extents are
// multiples of kLanes.
static void transpose_tile(const float* from, int64_t ldf, int64_t rows, int64_t columns, float* to,
                           int64_t ldt) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane) block[lane] = load(from + (i + lane) * ldf + j);
      transpose(block);
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane) store(to + (j + lane) * ldt + i, block[lane]);
    }
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
