// The products of attention in bfloat16 on the matrix unit, with float32 sums: the second of the
// ways that attention_products.h describes.
#pragma once

#include "cpu/tile_unit.h"
#include "ops/attention/attention_products.h"

#ifdef PYMODEL_ISA_avx512_bf16

namespace pymodel::cpu::PYMODEL_ISA {

// ---------------------------------------------------------------------------------------------
// What all products on the matrix unit share

// Tiles 0 to 3 hold the sums of a block, `down` below each other and `across` beside: four hide the
// unit's latency.
template <int down, int across>
PYMODEL_INLINE void load_sums(const float* c, int64_t ldc, bool accumulate) {
  constexpr int64_t kFloat = sizeof(float);
  if (!accumulate) {
    tile_zero<0>();
    if (across > 1) tile_zero<1>();
    if (down > 1) tile_zero<2>();
    if (down > 1 && across > 1) tile_zero<3>();
    return;
  }
  const float* below = c + kTileRows * ldc;
  tile_load<0>(c, ldc * kFloat);
  if (across > 1) tile_load<1>(c + kTileRows, ldc * kFloat);
  if (down > 1) tile_load<2>(below, ldc * kFloat);
  if (down > 1 && across > 1) tile_load<3>(below + kTileRows, ldc * kFloat);
}

template <int down, int across>
PYMODEL_INLINE void store_sums(float* c, int64_t ldc) {
  constexpr int64_t kFloat = sizeof(float);
  float* below = c + kTileRows * ldc;
  tile_store<0>(c, ldc * kFloat);
  if (across > 1) tile_store<1>(c + kTileRows, ldc * kFloat);
  if (down > 1) tile_store<2>(below, ldc * kFloat);
  if (down > 1 && across > 1) tile_store<3>(below + kTileRows, ldc * kFloat);
}

// Rows and columns are rounded up to whole tiles, for which the operands have room.
template <typename P, typename Element>
static void multiply_blocks(int64_t rows, int64_t depth, int64_t columns, const Element* a,
                            int64_t lda, const Element* b, int64_t ldb, float* c, int64_t ldc,
                            bool accumulate) {
  for (int64_t i = 0; i < rows; i += 32, a += 32 * lda, c += 32 * ldc) {
    const bool tall = rows - i > kTileRows;
    for (int64_t j = 0; j < columns; j += 32) {
      const Element* strip = b + P::kPair * j;
      if (tall && columns - j > kTileRows) {
        P::template multiply_block<2, 2>(depth, a, lda, strip, ldb, c + j, ldc, accumulate);
      } else if (tall) {
        P::template multiply_block<2, 1>(depth, a, lda, strip, ldb, c + j, ldc, accumulate);
      } else if (columns - j > kTileRows) {
        P::template multiply_block<1, 2>(depth, a, lda, strip, ldb, c + j, ldc, accumulate);
      } else {
        P::template multiply_block<1, 1>(depth, a, lda, strip, ldb, c + j, ldc, accumulate);
      }
    }
  }
}

// The diagonal of out dout^T, in squares: of all sums only these are rounded as those of dP are.
template <typename P, typename Element, typename T>
static void dot_diagonal(const T* out, int64_t stride, int64_t count, int64_t columns,
                         const Element* dout_columns, Element* out_rows, float* dots) {
  const int64_t ld = round_up(columns, P::kDepth), lanes = round_up(count, kGroup);
  P::load_keys(out, stride, count, columns, out_rows, ld, lanes);
  for (int64_t i = 0; i < lanes; i += kTileRows) {
    float square[kTileRows * kTileRows];
    P::multiply_scores(kTileRows, columns, kTileRows, out_rows + i * ld, ld,
                       dout_columns + P::kPair * i, kTile, square, kTileRows);
    for (int row = 0; row < kTileRows; ++row) dots[i + row] = square[row * (kTileRows + 1)];
  }
}

// ---------------------------------------------------------------------------------------------
// bfloat16

struct UnitProducts {
  typedef bfloat16 Element;
  static constexpr int64_t kPair = 2;
  static constexpr int64_t kDepth = kTileDepth;
  static constexpr bool kInPlace = false;
  typedef TileUnit Unit;

  PYMODEL_INLINE bool in_range(const bfloat16*, int64_t) { return true; }

  // With a relative error of at most 3e-6: what is made of it has 8 bits.
  PYMODEL_INLINE Vec exponential(Vec x) {
    constexpr float kCoefficients[] = {1.0f, 0.99996686f, 0.50003016f, 0.167874739f, 0.0415138379f};
    return exp_or_tiny(kCoefficients, x);
  }

  // Up to 32 elements, the others zero, as a vector without meaning for arithmetic.
  PYMODEL_INLINE Vec load_words(const bfloat16* from, int64_t count) {
    const uint32_t mask = count >= 32 ? ~uint32_t{0} : (uint32_t{1} << count) - 1;
    return reinterpret_cast<Vec>(_mm512_maskz_loadu_epi16(mask, from));
  }
  PYMODEL_INLINE void store_words(bfloat16* to, Vec words) { memcpy(to, &words, sizeof words); }

  // The 16-bit elements of two vectors, the second's counted from 32, in one of two orders.
  typedef uint16_t Orders[2][32];
  PYMODEL_INLINE Vec shuffled(Vec a, Vec b, const Orders& orders, bool second) {
    return reinterpret_cast<Vec>(_mm512_permutex2var_epi16(reinterpret_cast<__m512i>(a),
                                                           _mm512_load_si512(orders[second]),
                                                           reinterpret_cast<__m512i>(b)));
  }
  // Side by side, a0 b0 a1 b1 ...: of their first halves, or of their second ones.
  alignas(64) static constexpr Orders kInterleaved = {
      {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
      {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
       24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  // One vector's after the other's: the even elements, or the odd ones.
  alignas(64) static constexpr Orders kSeparated = {
      {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
       32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62},
      {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
       33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63}};

  static void load_keys(const bfloat16* from, int64_t stride, int64_t rows, int64_t columns,
                        bfloat16* to, int64_t ld, int64_t padded_rows) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; j += 32) {
        store_words(to + i * ld + j, load_words(from + i * stride + j, columns - j));
      }
    }
    if (padded_rows > rows) {
      memset(to + rows * ld, 0, static_cast<size_t>((padded_rows - rows) * ld) * sizeof *to);
    }
  }

  // 16 rows of 32 columns with the words, pairs of columns, transposed.
  PYMODEL_INLINE void load_block(const bfloat16* from, int64_t stride, int64_t rows,
                                 int64_t columns, Vec (&block)[kLanes]) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      block[i] = i < rows ? load_words(from + i * stride, columns) : zero();
    }
    transpose(block);
  }

  // Every tile to its end, as the sum over keys goes by kDepth.
  static void load_turned(const bfloat16* from, int64_t stride, int64_t rows, int64_t columns,
                          bfloat16* to, int64_t ld, int64_t /* padded_rows */) {
    for (int64_t i = 0; i < rows; i += kTile, to += kTile * ld) {
      for (int64_t line = 0; line < kTile; line += 32) {
        const int64_t row = i + line;
        for (int64_t j = 0; j < columns; j += 32) {
          const bfloat16* block = from + row * stride + j;
          Vec left[kLanes], right[kLanes];  // the first 16 keys of the line, and the next
          load_block(block, stride, rows - row, columns - j, left);
          load_block(block + 16 * stride, stride, rows - row - 16, columns - j, right);
          for (int word = 0; word < kLanes; ++word) {
            bfloat16* out = to + (j + 2 * word) * kTile + line;
            store_words(out, shuffled(left[word], right[word], kSeparated, false));
            store_words(out + kTile, shuffled(left[word], right[word], kSeparated, true));
          }
        }
      }
    }
  }

  static void load_columns(const bfloat16* from, int64_t stride, int64_t rows, int64_t columns,
                           bfloat16* to) {
    for (int64_t i = 0; i < rows; i += kLanes) {
      for (int64_t j = 0; j < columns; j += 32) {
        Vec block[kLanes];
        load_block(from + i * stride + j, stride, rows - i, columns - j, block);
#pragma GCC unroll 16
        for (int word = 0; word < kLanes; ++word) {
          store_words(to + (j + 2 * word) * kTile + 2 * i, block[word]);
        }
      }
    }
  }

  static void load_lines(const bfloat16* from, int64_t stride, int64_t rows, int64_t columns,
                         bfloat16* to, int64_t ld) {
    for (int64_t i = 0; i < round_up(rows, kDepth); i += 2) {
      for (int64_t j = 0; j < columns; j += 32) {
        const bfloat16* source = from + i * stride + j;
        const Vec even = i < rows ? load_words(source, columns - j) : zero();
        const Vec odd = i + 1 < rows ? load_words(source + stride, columns - j) : zero();
        store_words(to + i * ld + 2 * j, shuffled(even, odd, kInterleaved, false));
        store_words(to + i * ld + 2 * j + 32, shuffled(even, odd, kInterleaved, true));
      }
    }
  }

  template <int down, int across>
  PYMODEL_INLINE void multiply_block(int64_t depth, const bfloat16* a, int64_t lda,
                                     const bfloat16* b, int64_t ldb, float* c, int64_t ldc,
                                     bool accumulate) {
    constexpr int64_t kBytes = sizeof(bfloat16);
    load_sums<down, across>(c, ldc, accumulate);
    for (int64_t k = 0; k < depth; k += kTileDepth) {
      tile_load<4>(a + k, lda * kBytes);
      tile_load<6>(b + k * ldb, 2 * ldb * kBytes);
      tile_multiply<0, 4, 6>();
      if (across > 1) {
        tile_load<7>(b + k * ldb + kTileDepth, 2 * ldb * kBytes);
        tile_multiply<1, 4, 7>();
      }
      if (down > 1) {
        tile_load<5>(a + kTileRows * lda + k, lda * kBytes);
        tile_multiply<2, 5, 6>();
        if (across > 1) tile_multiply<3, 5, 7>();
      }
    }
    store_sums<down, across>(c, ldc);
  }

  static void multiply(int64_t rows, int64_t depth, int64_t columns, const bfloat16* a, int64_t lda,
                       const bfloat16* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    multiply_blocks<UnitProducts>(rows, depth, columns, a, lda, b, ldb, c, ldc, accumulate);
  }
  PYMODEL_INLINE void multiply_scores(int64_t rows, int64_t depth, int64_t columns,
                                      const bfloat16* a, int64_t lda, const bfloat16* b,
                                      int64_t ldb, float* c, int64_t ldc) {
    multiply(rows, round_up(depth, kDepth), columns, a, lda, b, ldb, c, ldc, false);
  }
  static void dot_rows(const bfloat16* out, int64_t stride, int64_t count, int64_t columns,
                       const bfloat16* dout_columns, bfloat16* out_rows, float* dots) {
    dot_diagonal<UnitProducts>(out, stride, count, columns, dout_columns, out_rows, dots);
  }
  PYMODEL_INLINE void multiply_turned(int64_t rows, int64_t depth, int64_t columns,
                                      const bfloat16* a, int64_t first, int64_t, const bfloat16* b,
                                      int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    multiply(rows, depth, columns, a + first, kTile, b, ldb, c, ldc, accumulate);
  }

  // All of `even`, then all of `odd`.
  PYMODEL_INLINE __m512i rounded(Vec even, Vec odd) {
    return (__m512i)_mm512_cvtne2ps_pbh(odd, even);
  }
  PYMODEL_INLINE void put_rows(bfloat16* tile, int64_t key, int64_t lane, __m512i halves) {
    const __m256i even = _mm512_castsi512_si256(halves);
    const __m256i odd = _mm512_extracti64x4_epi64(halves, 1);
    memcpy(tile + key * kTile + lane, &even, sizeof even);
    memcpy(tile + (key + 1) * kTile + lane, &odd, sizeof odd);
  }
  PYMODEL_INLINE void put_lines(bfloat16* tile, int64_t key, int64_t lane, __m512i halves) {
    alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                        21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                        11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i words = _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves);
    store_words(tile + key * kTile + 2 * lane, reinterpret_cast<Vec>(words));
  }
  PYMODEL_INLINE void store_rows(bfloat16* tile, int64_t key, int64_t lane, Vec even, Vec odd) {
    put_rows(tile, key, lane, rounded(even, odd));
  }
  PYMODEL_INLINE void store_lines(bfloat16* tile, int64_t key, int64_t lane, Vec even, Vec odd) {
    put_lines(tile, key, lane, rounded(even, odd));
  }
  PYMODEL_INLINE void store_both(bfloat16* rows, bfloat16* lines, int64_t key, int64_t lane,
                                 Vec even, Vec odd) {
    const __m512i halves = rounded(even, odd);
    put_rows(rows, key, lane, halves);
    put_lines(lines, key, lane, halves);
  }
};

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
