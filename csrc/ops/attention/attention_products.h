// The ways in which the tiles of attention are multiplied, and the layouts that each wants: float32
// on vectors, and on the matrix unit, with float32 sums, bfloat16 (attention_unit_products.h) or
// float32 in parts of bfloat16 (attention_split_products.h). The kernels take one as the template
// argument `P`; its Element is what the operands are kept in.
//
// Everywhere C (rows, columns) = or += A (rows, depth) B (depth, columns). Operands lie as
//   rows    (line, padded columns): A with the sum along the columns
//   turned  as rows, or where that does not serve, each tile of kTile lines transposed: A with the
//           sum along the lines
//   columns (padded columns, kTile): B with the sum along the columns
//   lines   (line, padded columns): B with the sum along the lines
// where B interleaves two steps of the sum on the matrix unit: element (k, j) of B lies at
// k * row length + kPair * j for even k. Padding is zero.
#pragma once

#include "cpu/math.h"
#include "cpu/tile_product.h"
#include "ops/attention/attention_region.h"

namespace pymodel::cpu::PYMODEL_ISA {

// The row of one head is too short a run of memory to be foreseen by the hardware, and stores above
// all wait for each other: what the caller gets to `kRowsAhead` rows later is asked for early.
constexpr int64_t kRowsAhead = 12;

template <bool writes, typename T>
PYMODEL_INLINE void prefetch_row(const T* row, int64_t columns) {
  const char* at = reinterpret_cast<const char*>(row);
  const int64_t bytes = columns * static_cast<int64_t>(sizeof(T));
  for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(at + line, writes);
}

// Copies rows to float32 rows of length ld, a whole number of vectors. Columns up to the next
// vector and rows up to padded_rows become zeros.
template <typename T>
static void load_rows(const T* from, int64_t stride, int64_t rows, int64_t columns, float* to,
                      int64_t ld, int64_t padded_rows) {
  for (int64_t i = 0; i < rows; ++i) {
    if (i + kRowsAhead < rows) prefetch_row<false>(from + (i + kRowsAhead) * stride, columns);
    for_each_vector(columns, [&](int64_t j, int64_t n) {
      store(to + i * ld + j, load_lanes(from + i * stride + j, n));
    });
  }
  if (padded_rows > rows) {
    memset(to + rows * ld, 0, static_cast<size_t>((padded_rows - rows) * ld) * sizeof(float));
  }
}

// ---------------------------------------------------------------------------------------------
// float32

// Terms that scores and dP sum before they add the sum to the others: rounding errors grow with the
// length of a chain, and dP - D, a difference of large numbers, shows them.
constexpr int64_t kSumLength = 16;

struct FloatProducts {
  typedef float Element;
  static constexpr int64_t kPair = 1;
  static constexpr int64_t kDepth = 1;    // what `depth` is a multiple of
  static constexpr bool kInPlace = true;  // a tile of scores may become an operand where it lies
  struct Unit {};                         // what a thread holds while it multiplies

  // Whether `count` elements of an operand can be multiplied this way; else float32 on vectors can.
  PYMODEL_INLINE bool in_range(const float*, int64_t) { return true; }

  // With a relative error of at most 1.1e-7.
  PYMODEL_INLINE Vec exponential(Vec x) { return exp_or_tiny(kExpCoefficients, x); }

  template <typename T>
  PYMODEL_INLINE void load_keys(const T* from, int64_t stride, int64_t rows, int64_t columns,
                                float* to, int64_t ld, int64_t padded_rows) {
    load_rows(from, stride, rows, columns, to, ld, padded_rows);
  }
  template <typename T>
  PYMODEL_INLINE void load_turned(const T* from, int64_t stride, int64_t rows, int64_t columns,
                                  float* to, int64_t ld, int64_t padded_rows) {
    load_rows(from, stride, rows, columns, to, ld, padded_rows);
  }
  template <typename T>
  PYMODEL_INLINE void load_lines(const T* from, int64_t stride, int64_t rows, int64_t columns,
                                 float* to, int64_t ld) {
    load_rows(from, stride, rows, columns, to, ld, round_up(rows, kGroup));
  }

  template <typename T>
  static void load_columns(const T* from, int64_t stride, int64_t rows, int64_t columns,
                           float* to) {
    for (int64_t i = 0; i < round_up(rows, kGroup); i += kLanes) {
      for_each_vector(columns, [&](int64_t j, int64_t n) {
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int lane = 0; lane < kLanes; ++lane) {
          const int64_t row = i + lane;
          block[lane] = row < rows ? load_lanes(from + row * stride + j, n) : zero();
        }
        transpose(block);
#pragma GCC unroll 16
        for (int lane = 0; lane < kLanes; ++lane) store(to + (j + lane) * kTile + i, block[lane]);
      });
    }
  }

  PYMODEL_INLINE void multiply(int64_t rows, int64_t depth, int64_t columns, const float* a,
                               int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                               bool accumulate) {
    tile_product<false>(rows, depth, round_up(columns, kLanes), a, lda, b, ldb, c, ldc, accumulate);
  }
  // The same for long sums.
  static void multiply_scores(int64_t rows, int64_t depth, int64_t columns, const float* a,
                              int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc) {
    for (int64_t k = 0; k < depth; k += kSumLength) {
      tile_product<false>(rows, smaller(kSumLength, depth - k), columns, a + k, lda, b + k * ldb,
                          ldb, c, ldc, k > 0);
    }
  }
  // D of `count` queries: rowsum(dout * out). Summed as `multiply_scores` sums dP, so that where a
  // query sees one key only, and its output is that value, dP - D is exactly zero.
  template <typename T>
  static void dot_rows(const T* out, int64_t stride, int64_t count, int64_t columns,
                       const float* dout_columns, float* out_columns, float* dots) {
    load_columns(out, stride, count, columns, out_columns);
    for (int64_t lane = 0; lane < round_up(count, kGroup); lane += kLanes) {
      Vec dot = zero();
      for (int64_t first = 0; first < columns; first += kSumLength) {
        Vec part = zero();
        for (int64_t j = first; j < smaller(first + kSumLength, columns); ++j) {
          const int64_t at = j * kTile + lane;
          part = fma(load(out_columns + at), load(dout_columns + at), part);
        }
        dot = first == 0 ? part : part + dot;
      }
      store(dots + lane, dot);
    }
  }
  // A is a turned tile from its line `first` on.
  PYMODEL_INLINE void multiply_turned(int64_t rows, int64_t depth, int64_t columns, const float* a,
                                      int64_t first, int64_t lda, const float* b, int64_t ldb,
                                      float* c, int64_t ldc, bool accumulate) {
    tile_product<true>(round_up(rows, 2), depth, columns, a + first * lda, lda, b, ldb, c, ldc,
                       accumulate);
  }

  // Keys key and key + 1 of tiles (kTile, kTile), in the lanes from `lane` on, to become A or B.
  PYMODEL_INLINE void store_rows(float* tile, int64_t key, int64_t lane, Vec even, Vec odd) {
    store(tile + key * kTile + lane, even);
    store(tile + (key + 1) * kTile + lane, odd);
  }
  PYMODEL_INLINE void store_lines(float* tile, int64_t key, int64_t lane, Vec even, Vec odd) {
    store_rows(tile, key, lane, even, odd);
  }
  PYMODEL_INLINE void store_both(float* rows, float*, int64_t key, int64_t lane, Vec even,
                                 Vec odd) {
    store_rows(rows, key, lane, even, odd);
  }
};

}  // namespace pymodel::cpu::PYMODEL_ISA
