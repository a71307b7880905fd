// Products of small dense float32 tiles that are in cache already, without packing.
//
// A is read one element at a time and broadcast, so its layout is free: row by row, or transposed.
// B and C need only rows of whole vectors. Fused kernels build on it, whose tiles are made in
// cache and used a few times: packing them as gemm does (cpu/micro_gemm.h) would not pay.
#pragma once

#include "cpu/micro_gemm.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Rows of a product. Every panel height divides it.
constexpr int64_t kProductRows = 8;

template <bool transposed, int vecs>
static void tile_product_fixed(int64_t depth, const float* __restrict a, int64_t lda,
                               const float* __restrict b, int64_t ldb, float* __restrict c,
                               int64_t ldc, bool accumulate) {
  Vec sums[kPanelRows][vecs];
#pragma GCC unroll 8
  for (int i = 0; i < kPanelRows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) sums[i][j] = zero();
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec row[vecs];
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) row[j] = load(b + k * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kPanelRows; ++i) {
      const Vec factor = broadcast(transposed ? a[k * lda + i] : a[i * lda + k]);
#pragma GCC unroll 3
      for (int j = 0; j < vecs; ++j) sums[i][j] = fma(factor, row[j], sums[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kPanelRows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) {
      float* out = c + i * ldc + j * kLanes;
      store(out, accumulate ? sums[i][j] + load(out) : sums[i][j]);
    }
  }
}

// c (8, columns; row stride ldc) = or += A (8, depth) * b (depth, columns; row stride ldb), where
// A[i, k] = a[i * lda + k], or a[k * lda + i] when transposed; columns is a multiple of kLanes.
template <bool transposed>
static void tile_product(int64_t depth, int64_t columns, const float* a, int64_t lda,
                         const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  for (int64_t i = 0; i < kProductRows; i += kPanelRows) {
    const float* rows = a + (transposed ? i : i * lda);
    int64_t j = 0;
    while (j < columns) {
      const int64_t left = (columns - j) / kLanes;
      const float* from = b + j;
      float* to = c + i * ldc + j;
      if (left >= 3 && left != 4) {  // 4 = 2 + 2: a single vector would wait for its own sums
        tile_product_fixed<transposed, 3>(depth, rows, lda, from, ldb, to, ldc, accumulate);
        j += 3 * kLanes;
      } else if (left >= 2) {
        tile_product_fixed<transposed, 2>(depth, rows, lda, from, ldb, to, ldc, accumulate);
        j += 2 * kLanes;
      } else {
        tile_product_fixed<transposed, 1>(depth, rows, lda, from, ldb, to, ldc, accumulate);
        j += kLanes;
      }
    }
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
