// Panels for the matrix unit (cpu/tile_unit.h): 32 rows of A or 32 columns of B, cut along k into
// steps of 32, which are two tiles each; and the product of two panels, 32 x 32 sums in four tiles.
//
// A packed step of bfloat16 is 2 KiB: the tile of the first 16 lines (rows or columns), then that
// of the others. What a panel lacks in lines or in depth is zero. A panel of A may also be read in
// place. Panels of float32 are in cpu/tile_split.h.
#pragma once

#include "core/dtype.h"
#include "cpu/micro_gemm.h"
#include "cpu/tile_unit.h"

#ifdef PYMODEL_ISA_avx512_bf16

namespace pymodel::cpu::PYMODEL_ISA {

constexpr int kTilePanelLines = 2 * kTileRows;
constexpr int64_t kTileStepBytes = 2 * kTileBytes;  // of bfloat16

PYMODEL_INLINE int64_t tile_steps(int64_t depth) { return (depth + kTileDepth - 1) / kTileDepth; }

// ---------------------------------------------------------------------------------------------
// Packing

// A matrix of which a line is a row of A or a column of B: element k of line i is
// at[i * stride_line + k * stride_k].
template <typename T>
struct TileSource {
  const T* at;
  int64_t stride_line, stride_k;

  TileSource from(int64_t line, int64_t k) const {
    return {at + line * stride_line + k * stride_k, stride_line, stride_k};
  }
};

// a0 b0 a1 b1 of each four words of two vectors, or with start = 2 the other halves of the fours.
template <int s>
PYMODEL_INLINE Vec interleave_quarters(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, s, s + 16, s + 1, s + 17, s + 4, s + 20, s + 5, s + 21,  //
                                 s + 8, s + 24, s + 9, s + 25, s + 12, s + 28, s + 13, s + 29);
}

// Vectors 4 q to 4 q + 3 of a transposed block of 16 x 16 words, whose rows lie `stride` apart.
// Loads put four words at a time into place, so that half the shuffles of transpose() are left.
PYMODEL_INLINE void fetch_turned(const float* rows, int64_t stride, int q, Vec (&turned)[4]) {
  Vec v[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float* at = rows + i * stride + 4 * q;
    __m512 all = _mm512_zextps128_ps512(_mm_loadu_ps(at));
    all = _mm512_mask_broadcast_f32x4(all, 0x00f0, _mm_loadu_ps(at + 4 * stride));
    all = _mm512_mask_broadcast_f32x4(all, 0x0f00, _mm_loadu_ps(at + 8 * stride));
    all = _mm512_mask_broadcast_f32x4(all, 0xf000, _mm_loadu_ps(at + 12 * stride));
    v[i] = (Vec)all;
  }
  const Vec low02 = interleave_quarters<0>(v[0], v[2]), low13 = interleave_quarters<0>(v[1], v[3]);
  const Vec high02 = interleave_quarters<2>(v[0], v[2]);
  const Vec high13 = interleave_quarters<2>(v[1], v[3]);
  turned[0] = interleave_quarters<0>(low02, low13);
  turned[1] = interleave_quarters<2>(low02, low13);
  turned[2] = interleave_quarters<0>(high02, high13);
  turned[3] = interleave_quarters<2>(high02, high13);
}

// The 32 k of each of 16 lines, one line a vector.
PYMODEL_INLINE void fetch_lines(const TileSource<bfloat16>& from, int lines, int depth,
                                Vec (&tile)[16]) {
  const __mmask32 mask = depth == kTileDepth ? ~__mmask32{0} : (__mmask32{1} << depth) - 1;
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    tile[i] = zero();
    if (i < lines) tile[i] = (Vec)_mm512_maskz_loadu_epi16(mask, from.at + i * from.stride_line);
  }
}

// 16 pairs of k, each of 16 lines, one pair a vector.
PYMODEL_INLINE void fetch_pairs(const TileSource<bfloat16>& from, int lines, int depth,
                                Vec (&tile)[16]) {
  const __mmask16 mask = first_lanes(lines);
  alignas(64) static const uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kInterleave);
#pragma GCC unroll 16
  for (int p = 0; p < kTileRows; ++p) {
    tile[p] = zero();
    if (2 * p >= depth) continue;
    const bfloat16* even = from.at + 2 * p * from.stride_k;
    // The same lines of the next step: too short a run of memory to be foreseen by the hardware.
    __builtin_prefetch(even + kTileDepth * from.stride_k);
    __builtin_prefetch(even + (kTileDepth + 1) * from.stride_k);
    const bool odd = 2 * p + 1 < depth;
    const __m256i low = _mm256_maskz_loadu_epi16(mask, even);
    const __m256i high =
        _mm256_maskz_loadu_epi16(odd ? mask : 0, odd ? even + from.stride_k : even);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    tile[p] = (Vec)_mm512_permutexvar_epi16(order, both);
  }
}

// As fetch_lines, where neither lines nor k are dense.
static void gather_lines(const TileSource<bfloat16>& from, int lines, int depth, Vec (&tile)[16]) {
  uint16_t words[kTileRows][kTileDepth] = {};
  for (int i = 0; i < lines; ++i) {
    for (int k = 0; k < depth; ++k) {
      words[i][k] = from.at[i * from.stride_line + k * from.stride_k].bits;
    }
  }
  memcpy(tile, words, sizeof words);
}

// One tile: rows of A, or with `pairs` interleaved columns of B. Either is the other transposed, in
// words of two k.
template <bool pairs>
static void pack_tile(const TileSource<bfloat16>& from, int lines, int depth, char* tile) {
  Vec words[16];
  const bool paired = from.stride_line == 1 && from.stride_k != 1;
  if (paired) {
    fetch_pairs(from, lines, depth, words);
  } else if (from.stride_k == 1) {
    fetch_lines(from, lines, depth, words);
  } else {
    gather_lines(from, lines, depth, words);
  }
  if (paired != pairs) transpose(words);
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) store(reinterpret_cast<float*>(tile) + i * 16, words[i]);
}

// Calls pack(source, lines, depth, tile, step) for every tile of the panels of `lines` lines of
// `depth` elements, both tiles of a step even if the second holds no line. Memory is met in its own
// order: along k if that is dense, else along the lines.
template <typename T, typename Pack>
PYMODEL_INLINE void for_each_tile(const TileSource<T>& from, int64_t lines, int64_t depth,
                                  const Pack& pack) {
  const int64_t steps = tile_steps(depth), tiles = 2 * tile_steps(lines);
  const bool along_k = from.stride_k == 1;
  for (int64_t outer = 0; outer < (along_k ? tiles : steps); ++outer) {
    for (int64_t inner = 0; inner < (along_k ? steps : tiles); ++inner) {
      const int64_t tile = along_k ? outer : inner, step = along_k ? inner : outer;
      const int64_t line = tile * kTileRows, k = step * kTileDepth;
      const int64_t some = lines - line < kTileRows ? lines - line : kTileRows;
      const int64_t deep = depth - k < kTileDepth ? depth - k : kTileDepth;
      pack(from.from(line, k), some < 0 ? 0 : static_cast<int>(some), static_cast<int>(deep), tile,
           step);
    }
  }
}

// Packs `lines` lines of `depth` elements into panels of 32, one after the other.
template <bool pairs>
static void pack_tile_panels(const TileSource<bfloat16>& from, int64_t lines, int64_t depth,
                             char* panels) {
  const int64_t steps = tile_steps(depth);
  for_each_tile(
      from, lines, depth,
      [&](const TileSource<bfloat16>& at, int some, int deep, int64_t tile, int64_t step) {
        pack_tile<pairs>(
            at, some, deep,
            panels + (tile / 2 * steps + step) * kTileStepBytes + tile % 2 * kTileBytes);
      });
}

// ---------------------------------------------------------------------------------------------
// Product

// 32 rows of A, packed or where they lie: bytes between rows and between steps.
struct TileRowPanel {
  const char* at;
  int64_t stride, step;
};

PYMODEL_INLINE TileRowPanel packed_rows(const char* panel) {
  return {panel, kTileRowBytes, kTileStepBytes};
}

// For 32 rows of whole steps, dense along k.
PYMODEL_INLINE TileRowPanel rows_in_place(const bfloat16* rows, int64_t stride) {
  return {reinterpret_cast<const char*>(rows), stride * 2, kTileRowBytes};
}

template <int row_tiles, int column_tiles, typename Aside>
static void multiply_tile_panels_fixed(TileRowPanel a, const char* b, int64_t steps, float* sums,
                                       bool accumulate, Aside& aside) {
  constexpr int64_t kStride = kTilePanelLines * sizeof(float);
  float* const lower = sums + kTileRows * kTilePanelLines;
  constexpr bool tall = row_tiles == 2, wide = column_tiles == 2;
  constexpr int64_t kAhead = 1;  // steps
  if (accumulate) {
    tile_load<0>(sums, kStride);
    if (wide) tile_load<1>(sums + kTileRows, kStride);
    if (tall) tile_load<2>(lower, kStride);
    if (tall && wide) tile_load<3>(lower + kTileRows, kStride);
  } else {
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
  }
  for (int64_t step = 0; step < steps; ++step) {
    const char *const a_soon = a.at + kAhead * a.step, *const b_soon = b + kAhead * kTileStepBytes;
    tile_load<6>(b, kTileRowBytes);
    tile_load<4>(a.at, a.stride);
    prefetch_tile(b_soon, kTileRowBytes);
    tile_multiply<0, 4, 6>();
    if (wide) {
      tile_load<7>(b + kTileBytes, kTileRowBytes);
      prefetch_tile(b_soon + kTileBytes, kTileRowBytes);
      tile_multiply<1, 4, 7>();
    }
    prefetch_tile(a_soon, a.stride);
    if (tall) {
      tile_load<5>(a.at + kTileRows * a.stride, a.stride);
      prefetch_tile(a_soon + kTileRows * a.stride, a.stride);
      tile_multiply<2, 5, 6>();
    }
    if (tall && wide) tile_multiply<3, 5, 7>();
    aside();
    a.at += a.step;
    b += kTileStepBytes;
  }
  tile_store<0>(sums, kStride);
  if (wide) tile_store<1>(sums + kTileRows, kStride);
  if (tall) tile_store<2>(lower, kStride);
  if (tall && wide) tile_store<3>(lower + kTileRows, kStride);
}

// sums (32, 32) = or += A (rows, steps * 32) B (steps * 32, columns); tiles without rows or columns
// of the product are left out. What there is to do on the side is done once a step: aside(). A
// TileUnit must be alive.
template <typename Aside>
static inline void multiply_tile_panels(const TileRowPanel& a, const char* b, int64_t steps,
                                        int64_t rows, int64_t columns, float* sums, bool accumulate,
                                        Aside& aside) {
  const bool tall = rows > kTileRows, wide = columns > kTileRows;
  if (tall && wide) return multiply_tile_panels_fixed<2, 2>(a, b, steps, sums, accumulate, aside);
  if (tall) return multiply_tile_panels_fixed<2, 1>(a, b, steps, sums, accumulate, aside);
  if (wide) return multiply_tile_panels_fixed<1, 2>(a, b, steps, sums, accumulate, aside);
  multiply_tile_panels_fixed<1, 1>(a, b, steps, sums, accumulate, aside);
}

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
