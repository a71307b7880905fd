// float32 products on the matrix unit (cpu/tile_unit.h), which multiplies bfloat16 alone: a float32
// x is the sum of three bfloat16, each the rest of x rounded to the nearest,
//
//   x = x1 + x2 + x3,   |x2| <= 2^-8 |x|,   |x3| <= 2^-16 |x|      (8 + 8 + 8 bits of mantissa)
//
// exactly, and of the nine products of the parts of a and b six are computed:
//
//   a b ~ a1 b1 + (a1 b2 + a2 b1) + (a2 b2 + a1 b3 + a3 b1)
//
// What is left out is at most 2^-23 |a b|, the spacing of float32. The matrix unit does not round
// products and adds 32 of them at a time, so that sums come out nearer to the truth than those of a
// chain of float32 multiply-adds.
//
// The unit takes subnormal numbers for zero, results too, and has no use for infinities, whose
// parts are not theirs to split. A panel therefore knows its largest magnitude. Two panels within
// [2^-90, 2^127), whose magnitudes multiply to 2^-90 at least, lose less than 2^-36 of those; any
// others, unless one is all zeros, have to be multiplied in float32 (splits_in_range).
//
// Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations", ARITH 2019.
#pragma once

#include "cpu/tile_panel.h"

#ifdef PYMODEL_ISA_avx512_bf16

namespace pymodel::cpu::PYMODEL_ISA {

// A step holds three parts one after the other, each laid out like a step of bfloat16; behind the
// steps of a panel are the bits of 16 magnitudes, the largest of which is the panel's.
constexpr int kSplitParts = 3;
constexpr int64_t kSplitStepBytes = kSplitParts * kTileStepBytes;
constexpr int64_t kSplitRangeBytes = 64;

PYMODEL_INLINE int64_t split_panel_bytes(int64_t depth) {
  return tile_steps(depth) * kSplitStepBytes + kSplitRangeBytes;
}

// ---------------------------------------------------------------------------------------------
// Packing

typedef uint32_t Words __attribute__((vector_size(64), may_alias));

PYMODEL_INLINE Words larger(Words a, Words b) { return a > b ? a : b; }
PYMODEL_INLINE Words magnitude(Vec x) { return (Words)x & 0x7fffffffu; }

// Takes off x the nearest bfloat16, and returns that. Of the last of three parts nothing is
// rounded.
PYMODEL_INLINE Words take_part(Vec& x) {
  const Words part = ((Words)x + 0x8000u) & 0xffff0000u;
  x -= (Vec)part;
  return part;
}

// The upper halves of two vectors of words side by side. What is left of a tiny number is subnormal
// and has lower halves as well, which must not get into the numbers beside it.
PYMODEL_INLINE Words pair_words(Words low, Words high) {
  return (Words)_mm512_mask_blend_epi16(0xaaaaaaaau, (__m512i)(low >> 16), (__m512i)high);
}

// A row of each part's tile: 16 words of two elements.
PYMODEL_INLINE void store_words(Vec near, Vec far, char* row) {
#pragma GCC unroll 3
  for (int part = 0; part < kSplitParts; ++part) {
    const bool last = part == kSplitParts - 1;
    const Words low = last ? (Words)near : take_part(near);
    const Words words = pair_words(low, last ? (Words)far : take_part(far));
    memcpy(row + part * kTileStepBytes, &words, sizeof words);
  }
}

// 16 vectors of a block of 16 x 16, `stride` apart; what is beyond `vectors` and `lanes` is zero.
PYMODEL_INLINE void fetch_block(const float* at, int64_t stride, int vectors, int lanes,
                                Vec (&block)[16]) {
  if (vectors >= 16 && lanes >= 16) {
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) block[i] = load(at + i * stride);
    return;
  }
  const __mmask16 mask = lanes > 0 ? first_lanes(lanes < 16 ? lanes : 16) : 0;
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    block[i] = zero();
    if (i < vectors) block[i] = (Vec)_mm512_maskz_loadu_ps(mask, at + i * stride);
  }
}

// As fetch_block with a line a vector, where neither lines nor k are dense.
static void gather_block(const TileSource<float>& from, int lines, int depth, Vec (&block)[16]) {
  float elements[kTileRows][16] = {};
  for (int i = 0; i < lines; ++i) {
    for (int k = 0; k < depth && k < 16; ++k) elements[i][k] = *from.from(i, k).at;
  }
  memcpy(block, elements, sizeof elements);
}

// Brings 16 lines x 32 along k, of which some are there, into rows of a tile: with `by_k` (columns
// of B) row i is of elements i and i + 16 of each line, else (rows of A) of the elements of line i.
template <bool by_k>
PYMODEL_INLINE void arrange_rows(const TileSource<float>& from, int lines, int depth,
                                 float (&near_and_far)[2][kTileRows * 16]) {
  const bool columns_dense = from.stride_line == 1 && from.stride_k != 1;
  const bool dense = columns_dense || from.stride_k == 1;
  const int64_t stride = columns_dense ? from.stride_k : from.stride_line;
  for (int half = 0; half < 2; ++half) {
    Vec block[16];
    const int deep = depth - 16 * half;
    const TileSource<float> at = from.from(0, deep > 0 ? 16 * half : 0);
    if (!dense) {
      gather_block(at, lines, deep, block);
    } else if (columns_dense) {
      fetch_block(at.at, stride, deep, lines, block);
    } else {
      fetch_block(at.at, stride, lines, deep, block);
    }
    if (columns_dense != by_k) transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) store(near_and_far[half] + i * 16, block[i]);
  }
}

// Rows 4 q to 4 q + 3 of a whole tile's parts, which lie kTileStepBytes apart; returns the largest
// magnitudes. A word holds elements k and k + 16 of its step, in A as in B, so that no vector has
// to be shuffled. `near` and `far` are 16 x 16 elements whose rows, or `turned` columns, they are.
template <bool turned>
PYMODEL_INLINE Words pack_quarter(const float* near, const float* far, int64_t stride, int q,
                                  char* tile) {
  Vec low[4], high[4];
  if (turned) {
    fetch_turned(near, stride, q, low);
    fetch_turned(far, stride, q, high);
  }
  Words largest = {};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int64_t row = 4 * q + i;
    if (!turned) {
      low[i] = load(near + row * stride);
      high[i] = load(far + row * stride);
    }
    largest = larger(larger(largest, magnitude(low[i])), magnitude(high[i]));
    store_words(low[i], high[i], tile + row * kTileRowBytes);
  }
  return largest;
}

// A tile of which some lines or elements along k are missing, or lie in no order.
template <bool by_k>
static Words pack_ragged_tile(const TileSource<float>& from, int lines, int depth, char* tile) {
  alignas(64) float rows[2][kTileRows * 16];
  arrange_rows<by_k>(from, lines, depth, rows);
  Words largest = {};
  for (int q = 0; q < 4; ++q) {
    largest = larger(largest, pack_quarter<false>(rows[0], rows[1], 16, q, tile));
  }
  return largest;
}

// A quarter of any tile; of a ragged one all with q = 0, and then nothing.
template <bool by_k>
PYMODEL_INLINE Words pack_split_quarter(const TileSource<float>& from, int lines, int depth, int q,
                                        char* tile) {
  const bool columns_dense = from.stride_line == 1 && from.stride_k != 1;
  const bool dense = columns_dense || from.stride_k == 1;
  const int64_t stride = columns_dense ? from.stride_k : from.stride_line;
  if (columns_dense) {
    // The same lines further along k: too short a run of memory to be foreseen by the hardware.
    const float* const next = from.at + (kTileDepth + kTileDepth / 4 * q) * stride;
    for (int k = 0; k < kTileDepth / 4; ++k) __builtin_prefetch(next + k * stride);
  }
  if (!dense || lines < kTileRows || depth < kTileDepth) {
    return q > 0 ? Words{} : pack_ragged_tile<by_k>(from, lines, depth, tile);
  }
  const float *const near = from.at, *const far = from.at + 16 * from.stride_k;
  return columns_dense == by_k ? pack_quarter<false>(near, far, stride, q, tile)
                               : pack_quarter<true>(near, far, stride, q, tile);
}

// Packs `lines` lines of `depth` elements into panels of 32, one after the other.
template <bool by_k>
static void pack_tile_panels(const TileSource<float>& from, int64_t lines, int64_t depth,
                             char* panels) {
  const int64_t steps = tile_steps(depth), bytes = split_panel_bytes(depth);
  for (int64_t panel = 0; panel < tile_steps(lines); ++panel) {
    memset(panels + (panel + 1) * bytes - kSplitRangeBytes, 0, kSplitRangeBytes);
  }
  for_each_tile(from, lines, depth,
                [&](const TileSource<float>& at, int some, int deep, int64_t tile, int64_t step) {
                  char* const panel = panels + tile / 2 * bytes;
                  Words* const range = reinterpret_cast<Words*>(panel + steps * kSplitStepBytes);
                  char* const to = panel + step * kSplitStepBytes + tile % 2 * kTileBytes;
                  for (int q = 0; q < 4; ++q) {
                    *range = larger(*range, pack_split_quarter<by_k>(at, some, deep, q, to));
                  }
                });
}

// Packs 32 rows of A in quarters of tiles, on the side of products with other rows: those wait for
// the matrix unit, and packing takes what vector units and loads they leave.
class RowPacker {
 public:
  // Up to 32 rows, none of which has to be there, into a panel of its own. Products call it
  // `calls` times.
  RowPacker(const TileSource<float>& from, int64_t rows, int64_t depth, char* panel, int64_t calls)
      : from_(from),
        rows_(rows),
        depth_(depth),
        steps_(tile_steps(depth)),
        panel_(panel),
        calls_(calls),
        quarters_(rows > 0 ? 2 * 4 * steps_ : 0) {}

  // Its share of the quarters.
  __attribute__((always_inline)) void operator()() {
    for (due_ += quarters_; due_ >= calls_ && next_ < quarters_; due_ -= calls_) pack_next();
  }

  // The rest of them.
  void finish() {
    while (next_ < quarters_) pack_next();
    if (quarters_ > 0) memcpy(panel_ + steps_ * kSplitStepBytes, &largest_, kSplitRangeBytes);
  }

 private:
  __attribute__((always_inline)) void pack_next() {
    const int64_t tile = from_.stride_k == 1 ? next_ / 4 / steps_ : next_ / 4 % 2;
    const int64_t step = from_.stride_k == 1 ? next_ / 4 % steps_ : next_ / 8;
    const int64_t row = tile * kTileRows, k = step * kTileDepth;
    const int64_t rows = rows_ - row < kTileRows ? rows_ - row : kTileRows;
    const int64_t deep = depth_ - k < kTileDepth ? depth_ - k : kTileDepth;
    largest_ = larger(largest_, pack_split_quarter<false>(
                                    from_.from(row, k), rows < 0 ? 0 : static_cast<int>(rows),
                                    static_cast<int>(deep), static_cast<int>(next_ % 4),
                                    panel_ + step * kSplitStepBytes + tile * kTileBytes));
    ++next_;
  }

  const TileSource<float> from_;
  const int64_t rows_, depth_, steps_;
  char* const panel_;
  const int64_t calls_, quarters_;
  int64_t due_ = 0, next_ = 0;
  Words largest_ = {};
};

// The bits of a panel's largest magnitude.
PYMODEL_INLINE uint32_t panel_magnitude(const char* panel, int64_t depth) {
  const Words range =
      *reinterpret_cast<const Words*>(panel + split_panel_bytes(depth) - kSplitRangeBytes);
  uint32_t largest = 0;
  for (int i = 0; i < kLanes; ++i) largest = range[i] > largest ? range[i] : largest;
  return largest;
}

// Whether two panels' parts stand for their elements in a product.
static inline bool splits_in_range(const char* a, const char* b, int64_t depth) {
  constexpr uint32_t kLeast = 127 - 90, kLimit = 127 + 127, kLeastProduct = 2 * 127 - 90;
  const uint32_t of_a = panel_magnitude(a, depth), of_b = panel_magnitude(b, depth);
  const uint32_t exponent_a = of_a >> 23, exponent_b = of_b >> 23;
  if (exponent_a >= kLimit || exponent_b >= kLimit) return false;
  if (of_a == 0 || of_b == 0) return true;
  return exponent_a >= kLeast && exponent_b >= kLeast && exponent_a + exponent_b >= kLeastProduct;
}

// ---------------------------------------------------------------------------------------------
// Product

// c (2 x 2 tiles) += a b, with a's tiles in 4 and 5, b's in 6 and 7.
template <bool tall, bool wide>
PYMODEL_INLINE void multiply_four() {
  tile_multiply<0, 4, 6>();
  if (wide) tile_multiply<1, 4, 7>();
  if (tall) tile_multiply<2, 5, 6>();
  if (tall && wide) tile_multiply<3, 5, 7>();
}

template <bool tall>
PYMODEL_INLINE void load_part_of_a(const char* step, int part) {
  tile_load<4>(step + part * kTileStepBytes, kTileRowBytes);
  if (tall) tile_load<5>(step + part * kTileStepBytes + kTileBytes, kTileRowBytes);
}

// Asks for the same part of the next step too.
template <bool wide>
PYMODEL_INLINE void load_part_of_b(const char* step, int part) {
  const char* const at = step + part * kTileStepBytes;
  tile_load<6>(at, kTileRowBytes);
  prefetch_tile(at + kSplitStepBytes, kTileRowBytes);
  if (!wide) return;
  tile_load<7>(at + kTileBytes, kTileRowBytes);
  prefetch_tile(at + kSplitStepBytes + kTileBytes, kTileRowBytes);
}

// Memory that is to be in the second-level cache before long: `lines` of 64 bytes at each step.
struct TileAhead {
  const char* at;
  int64_t lines;

  __attribute__((always_inline)) void operator()() {
    for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(at + i * kTileRowBytes, 0, 2);
    at += lines * kTileRowBytes;
  }
};

// Small products first. Each pair of neighbours has a part in common, which stays in its register.
template <bool tall, bool wide, typename Aside, typename OtherAside>
static void multiply_split_panels_fixed(const char* a, const char* b, int64_t steps, float* sums,
                                        Aside& aside, OtherAside& other_aside) {
  constexpr int64_t kStride = kTilePanelLines * sizeof(float);
  tile_zero<0>();
  tile_zero<1>();
  tile_zero<2>();
  tile_zero<3>();
  for (int64_t step = 0; step < steps; ++step) {
    load_part_of_a<tall>(a, 0);
    load_part_of_b<wide>(b, 2);
    multiply_four<tall, wide>();
    aside();
    load_part_of_b<wide>(b, 1);
    multiply_four<tall, wide>();
    load_part_of_a<tall>(a, 1);
    multiply_four<tall, wide>();
    load_part_of_b<wide>(b, 0);
    multiply_four<tall, wide>();
    other_aside();
    load_part_of_a<tall>(a, 2);
    multiply_four<tall, wide>();
    load_part_of_a<tall>(a, 0);
    multiply_four<tall, wide>();
    a += kSplitStepBytes;
    b += kSplitStepBytes;
  }
  tile_store<0>(sums, kStride);
  if (wide) tile_store<1>(sums + kTileRows, kStride);
  if (tall) tile_store<2>(sums + kTileRows * kTilePanelLines, kStride);
  if (tall && wide) tile_store<3>(sums + kTileRows * kTilePanelLines + kTileRows, kStride);
}

// sums (32, 32) = A (rows, steps * 32) B (steps * 32, columns), as multiply_tile_panels, with two
// things to do on the side, apart from each other.
template <typename Aside, typename OtherAside>
static inline void multiply_split_panels(const char* a, const char* b, int64_t steps, int64_t rows,
                                         int64_t columns, float* sums, Aside& aside,
                                         OtherAside& other_aside) {
  const bool tall = rows > kTileRows, wide = columns > kTileRows;
  if (tall && wide) {
    multiply_split_panels_fixed<true, true>(a, b, steps, sums, aside, other_aside);
  } else if (tall) {
    multiply_split_panels_fixed<true, false>(a, b, steps, sums, aside, other_aside);
  } else if (wide) {
    multiply_split_panels_fixed<false, true>(a, b, steps, sums, aside, other_aside);
  } else {
    multiply_split_panels_fixed<false, false>(a, b, steps, sums, aside, other_aside);
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
