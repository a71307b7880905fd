// The products of attention in float32 on the matrix unit, which multiplies bfloat16 alone: each
// element is the sum of three bfloat16, and six products of those stand for one, as
// cpu/tile_split.h explains. The third of the ways that attention_products.h describes.
//
// Layouts are those of bfloat16 (attention_unit_products.h) with three times the memory: where
// bfloat16 has 32 elements, a line of a tile, there are the same 32 of each part in turn. Element
// addresses, counted in elements of 6 bytes, thus hold for whole lines. Within each 32 terms of a
// sum the order is free, if A and B agree: sums along the columns take k and k + 16 as a word,
// which needs no shuffle in rows of float32; sums along lines take k and k + 1.
#pragma once

#include "cpu/tile_split.h"
#include "ops/attention/attention_unit_products.h"

#ifdef PYMODEL_ISA_avx512_bf16

namespace pymodel::cpu::PYMODEL_ISA {

struct SplitElement {
  bfloat16 parts[kSplitParts];
};

struct SplitProducts {
  typedef SplitElement Element;
  static constexpr int64_t kPair = 2;
  static constexpr int64_t kDepth = kTileDepth;
  static constexpr bool kInPlace = false;
  static constexpr int64_t kLineBytes = kTileRowBytes;  // of one part
  typedef TileUnit Unit;

  PYMODEL_INLINE Vec exponential(Vec x) { return FloatProducts::exponential(x); }

  // Products of two operands are operands again, and their parts must not be subnormal either: the
  // largest magnitude has to be within [2^-48, 2^48), or zero. Infinity and NaN are not.
  static bool in_range(const Element* operand, int64_t count) {
    typedef uint16_t Halves __attribute__((vector_size(64), may_alias));
    constexpr uint16_t kLeast = (127 - 48) << 7, kLimit = (127 + 48) << 7;
    Halves largest = {};
    for (int64_t i = 0; i < count; i += 32) {
      const Halves line = *reinterpret_cast<const Halves*>(operand + i) & uint16_t{0x7fff};
      largest = line > largest ? line : largest;
    }
    uint16_t most = 0;
    for (int i = 0; i < 32; ++i) most = largest[i] > most ? largest[i] : most;
    return most == 0 || (most >= kLeast && most < kLimit);
  }

  // ---------------------------------------------------------------------------------------------
  // Operands from rows of float32

  // Up to 16 elements, the others zero.
  PYMODEL_INLINE Vec load_some(const float* from, int64_t count) {
    const __mmask16 mask = count >= 16 ? 0xffff : first_lanes(larger(0, count));
    return (Vec)_mm512_maskz_loadu_ps(mask, from);
  }

  // A block of rows ahead of those that are being loaded.
  PYMODEL_INLINE void prefetch_rows(const float* from, int64_t stride, int64_t rows,
                                    int64_t columns) {
    for (int64_t i = 0; i < smaller(rows, int64_t{kLanes}); ++i)
      prefetch_row<false>(from + i * stride, columns);
  }

  // The parts of 16 words, each of an element of `low` and one of `high`.
  PYMODEL_INLINE void split(Vec low, Vec high, Words (&parts)[kSplitParts]) {
    parts[0] = pair_words(take_part(low), take_part(high));
    parts[1] = pair_words(take_part(low), take_part(high));
    parts[2] = pair_words((Words)low, (Words)high);  // of these 8 bits are left
  }
  PYMODEL_INLINE void put_words(Element* to, const Words (&parts)[kSplitParts]) {
    char* at = reinterpret_cast<char*>(to);
#pragma GCC unroll 3
    for (int part = 0; part < kSplitParts; ++part) {
      memcpy(at + part * kLineBytes, &parts[part], sizeof parts[part]);
    }
  }
  PYMODEL_INLINE void put_split(Element* to, Vec low, Vec high) {
    Words parts[kSplitParts];
    split(low, high, parts);
    put_words(to, parts);
  }

  static void load_keys(const float* from, int64_t stride, int64_t rows, int64_t columns,
                        Element* to, int64_t ld, int64_t padded_rows) {
    for (int64_t i = 0; i < rows; ++i) {
      if (i + kRowsAhead < rows) prefetch_row<false>(from + (i + kRowsAhead) * stride, columns);
      for (int64_t j = 0; j < columns; j += 32) {
        const float* at = from + i * stride + j;
        put_split(to + i * ld + j, load_some(at, columns - j),
                  load_some(at + 16, columns - j - 16));
      }
    }
    if (padded_rows > rows) {
      memset(to + rows * ld, 0, static_cast<size_t>((padded_rows - rows) * ld) * sizeof *to);
    }
  }

  // 16 x 16 elements of rows `stride` apart, transposed.
  PYMODEL_INLINE void load_block(const float* from, int64_t stride, int64_t rows, int64_t columns,
                                 Vec (&block)[kLanes]) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      block[i] = i < rows ? load_some(from + i * stride, columns) : zero();
    }
    transpose(block);
  }

  // Every tile to its end, as the sum over keys goes by kDepth and in_range() looks at all.
  static void load_turned(const float* from, int64_t stride, int64_t rows, int64_t columns,
                          Element* to, int64_t ld, int64_t /* padded_rows */) {
    for (int64_t i = 0; i < rows; i += kTile, to += kTile * ld) {
      for (int64_t line = 0; line < kTile; line += 32) {
        const int64_t row = i + line;
        prefetch_rows(from + (row + 32) * stride, stride, rows - row - 32, columns);
        for (int64_t j = 0; j < ld; j += 16) {
          const float* at = from + row * stride + j;
          Vec even[kLanes], odd[kLanes];  // keys of the line
          load_block(at, 2 * stride, (rows - row + 1) / 2, columns - j, even);
          load_block(at + stride, 2 * stride, (rows - row) / 2, columns - j, odd);
          for (int k = 0; k < kLanes; ++k) put_split(to + (j + k) * kTile + line, even[k], odd[k]);
        }
      }
    }
  }

  static void load_columns(const float* from, int64_t stride, int64_t rows, int64_t columns,
                           Element* to) {
    for (int64_t i = 0; i < kTile; i += kLanes) {
      prefetch_rows(from + (i + kLanes) * stride, stride, rows - i - kLanes, columns);
      for (int64_t j = 0; j < columns; j += 32) {
        const float* at = from + i * stride + j;
        Vec low[kLanes], high[kLanes];
        load_block(at, stride, rows - i, columns - j, low);
        load_block(at + 16, stride, rows - i, columns - j - 16, high);
        for (int k = 0; k < kLanes; ++k) {
          put_split(to + (j + 2 * k) * kTile + 2 * i, low[k], high[k]);
        }
      }
    }
  }

  static void load_lines(const float* from, int64_t stride, int64_t rows, int64_t columns,
                         Element* to, int64_t ld) {
    for (int64_t i = 0; i < round_up(rows, kDepth); i += 2) {
      if (i % kLanes == 0) {
        prefetch_rows(from + (i + kLanes) * stride, stride, rows - i - kLanes, columns);
      }
      for (int64_t j = 0; j < ld; j += 16) {
        const float* at = from + i * stride + j;
        const Vec even = i < rows ? load_some(at, columns - j) : zero();
        const Vec odd = i + 1 < rows ? load_some(at + stride, columns - j) : zero();
        put_split(to + i * ld + 2 * j, even, odd);
      }
    }
  }

  // ---------------------------------------------------------------------------------------------
  // Products

  template <bool tall>
  PYMODEL_INLINE void load_a(const Element* a, int64_t lda, int part) {
    const char* at = reinterpret_cast<const char*>(a) + part * kLineBytes;
    const int64_t bytes = lda * static_cast<int64_t>(sizeof *a);
    tile_load<4>(at, bytes);
    if (tall) tile_load<5>(at + kTileRows * bytes, bytes);
  }
  template <bool wide>
  PYMODEL_INLINE void load_b(const Element* b, int64_t ldb, int part) {
    const char* at = reinterpret_cast<const char*>(b) + part * kLineBytes;
    const int64_t bytes = kPair * ldb * static_cast<int64_t>(sizeof *b);
    tile_load<6>(at, bytes);
    if (wide) tile_load<7>(at + kSplitParts * kLineBytes, bytes);
  }

  // Small products first, and what is there already last: each addition to a large sum rounds. Each
  // pair of neighbours has a part in common, which stays in its register.
  template <int down, int across>
  static void multiply_block(int64_t depth, const Element* a, int64_t lda, const Element* b,
                             int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    constexpr bool tall = down > 1, wide = across > 1;
    load_sums<down, across>(c, ldc, false);
    for (int64_t k = 0; k < depth; k += kTileDepth, a += kTileDepth, b += kTileDepth * ldb) {
      load_a<tall>(a, lda, 0);
      load_b<wide>(b, ldb, 2);
      multiply_four<tall, wide>();
      load_b<wide>(b, ldb, 1);
      multiply_four<tall, wide>();
      load_a<tall>(a, lda, 1);
      multiply_four<tall, wide>();
      load_b<wide>(b, ldb, 0);
      multiply_four<tall, wide>();
      load_a<tall>(a, lda, 2);
      multiply_four<tall, wide>();
      load_a<tall>(a, lda, 0);
      multiply_four<tall, wide>();
    }
    if (!accumulate) return store_sums<down, across>(c, ldc);
    alignas(64) float sums[down * kTileRows][across * kTileRows];
    store_sums<down, across>(sums[0], across * kTileRows);
    for (int i = 0; i < down * kTileRows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < across * kTileRows; j += kLanes) {
        float* out = c + i * ldc + j;
        store(out, load(out) + load(sums[i] + j));
      }
    }
  }

  static void multiply(int64_t rows, int64_t depth, int64_t columns, const Element* a, int64_t lda,
                       const Element* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    multiply_blocks<SplitProducts>(rows, depth, columns, a, lda, b, ldb, c, ldc, accumulate);
  }
  PYMODEL_INLINE void multiply_scores(int64_t rows, int64_t depth, int64_t columns,
                                      const Element* a, int64_t lda, const Element* b, int64_t ldb,
                                      float* c, int64_t ldc) {
    multiply(rows, round_up(depth, kDepth), columns, a, lda, b, ldb, c, ldc, false);
  }
  static void dot_rows(const float* out, int64_t stride, int64_t count, int64_t columns,
                       const Element* dout_columns, Element* out_rows, float* dots) {
    dot_diagonal<SplitProducts>(out, stride, count, columns, dout_columns, out_rows, dots);
  }
  PYMODEL_INLINE void multiply_turned(int64_t rows, int64_t depth, int64_t columns,
                                      const Element* a, int64_t first, int64_t, const Element* b,
                                      int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    multiply(rows, depth, columns, a + first, kTile, b, ldb, c, ldc, accumulate);
  }

  // ---------------------------------------------------------------------------------------------
  // Tiles that become operands: keys key and key + 1 in 16 lanes

  // Words have both keys of a lane, rows have the lanes of a key.
  PYMODEL_INLINE void put_rows(Element* tile, int64_t key, int64_t lane,
                               const Words (&parts)[kSplitParts]) {
    alignas(64) static constexpr uint16_t kOrder[32] = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20,
                                                        22, 24, 26, 28, 30, 1,  3,  5,  7,  9,  11,
                                                        13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
    const __m512i order = _mm512_load_si512(kOrder);
    char* even = reinterpret_cast<char*>(tile + key * kTile + round_down(lane, 32)) + lane % 32 * 2;
    char* odd = even + kTile * sizeof(Element);
#pragma GCC unroll 3
    for (int part = 0; part < kSplitParts; ++part) {
      const __m512i both = _mm512_permutexvar_epi16(order, (__m512i)parts[part]);
      const __m256i first = _mm512_castsi512_si256(both);
      const __m256i second = _mm512_extracti64x4_epi64(both, 1);
      memcpy(even + part * kLineBytes, &first, sizeof first);
      memcpy(odd + part * kLineBytes, &second, sizeof second);
    }
  }
  PYMODEL_INLINE void store_rows(Element* tile, int64_t key, int64_t lane, Vec even, Vec odd) {
    Words parts[kSplitParts];
    split(even, odd, parts);
    put_rows(tile, key, lane, parts);
  }
  PYMODEL_INLINE void store_lines(Element* tile, int64_t key, int64_t lane, Vec even, Vec odd) {
    put_split(tile + key * kTile + 2 * lane, even, odd);
  }
  PYMODEL_INLINE void store_both(Element* rows, Element* lines, int64_t key, int64_t lane, Vec even,
                                 Vec odd) {
    Words parts[kSplitParts];
    split(even, odd, parts);
    put_rows(rows, key, lane, parts);
    put_words(lines + key * kTile + 2 * lane, parts);
  }
};

// With a bias scores stay on vectors: the pass for its gradient multiplies there, and the lse that
// it reads has to fit.
PYMODEL_INLINE bool takes_split_products(const AttentionInputs& args) {
  return args.q.dtype == DType::float32 && args.bias.data == nullptr && tile_unit_on();
}

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
