// The register-blocked heart of every matrix product: packing into panels, and the product of one
// panel of A with one of B. gemm and attention build on it.
//
// A panel of A holds kPanelRows rows, stored k after k; one of B holds kPanelCols columns. Both
// are padded with zeros to full width. The structure follows Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", 2008, and the BLIS papers after it.
//
// With AVX-512 BF16 two consecutive k of a bfloat16 panel share a 32-bit word, as the dot-product
// instruction wants them ("paired"); otherwise panels hold float32, whatever the source.
#pragma once

#include "cpu/simd.h"

namespace pymodel::cpu::PYMODEL_ISA {

// 8 x 48 (AVX-512), 4 x 24 (AVX2) or 4 x 12: the accumulators, one row of B and one broadcast
// fill the register file, and there are enough accumulators to hide the latency of fma.
#ifdef PYMODEL_AVX512
constexpr int kPanelRows = 8;
#else
constexpr int kPanelRows = 4;
#endif
constexpr int kPanelVecs = 3;
constexpr int kPanelCols = kPanelVecs * kLanes;

#ifdef PYMODEL_ISA_avx512_bf16
template <typename T>
constexpr bool kPaired = false;
template <>
constexpr bool kPaired<bfloat16> = true;
#else
template <typename T>
constexpr bool kPaired = false;
#endif

// 32-bit words along k that a panel of `depth` takes.
template <typename T>
constexpr int64_t packed_depth(int64_t depth) {
  return kPaired<T> ? (depth + 1) / 2 : depth;
}

// ---------------------------------------------------------------------------------------------
// Packing

template <int... lane>
struct Lanes {};
template <int count, int... lane>
struct MakeLanes : MakeLanes<count - 1, count - 1, lane...> {};
template <int... lane>
struct MakeLanes<0, lane...> {
  typedef Lanes<lane...> type;
};

// a0 b0 a1 b1 ... from the lower or the upper half of two vectors.
template <int start, int... lane>
PYMODEL_INLINE Vec interleave(Vec a, Vec b, Lanes<lane...>) {
  return __builtin_shufflevector(a, b, (start + lane / 2 + (lane % 2) * kLanes)...);
}

// Transposes kLanes x kLanes: log2(kLanes) perfect shuffles of the rows.
PYMODEL_INLINE void transpose(Vec (&rows)[kLanes]) {
  typedef typename MakeLanes<kLanes>::type All;
#pragma GCC unroll 4
  for (int stage = 1; stage < kLanes; stage *= 2) {
    Vec next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave<0>(rows[i], rows[i + kLanes / 2], All{});
      next[2 * i + 1] = interleave<kLanes / 2>(rows[i], rows[i + kLanes / 2], All{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// One 32-bit word of a panel: elements k (and k + 1 when paired) of line `line`.
template <typename T>
PYMODEL_INLINE float packed_word(const T* p, int64_t stride_k, int64_t k, int64_t depth) {
  if (!kPaired<T>) return to_float(p[k * stride_k]);
  T pair[2] = {};
  pair[0] = p[2 * k * stride_k];
  if (2 * k + 1 < depth) pair[1] = p[(2 * k + 1) * stride_k];
  float word;
  memcpy(&word, pair, sizeof word);
  return word;
}

template <typename T>
PYMODEL_INLINE Vec packed_words(const T* p) {  // kLanes words of unit stride in k
  if (!kPaired<T>) return load(p);
  Vec v;
  memcpy(&v, p, sizeof v);
  return v;
}

// The words of `count` lines that lie side by side; the other lanes are zero.
template <typename T>
PYMODEL_INLINE Vec packed_lines(const T* p, int64_t stride_k, int64_t count) {
  if (!kPaired<T>) return load_lanes(p, count);
  const IntVec low = reinterpret_cast<IntVec>(load_lanes(p, count));
  const IntVec high = reinterpret_cast<IntVec>(load_lanes(p + stride_k, count));
  // Widening moved each element to the upper half of its lane; the earlier k belongs in the lower.
  return reinterpret_cast<Vec>(((low >> 16) & 0xffff) | high);
}

// One word of the kLanes lines from `line` on, which may reach into a second panel where panels are
// narrower than a vector.
template <int width>
PYMODEL_INLINE void put_words(Vec v, int64_t line, int64_t lines, int64_t k, int64_t words,
                              float* panels) {
  constexpr int kPart = width < kLanes ? width : kLanes;
  float lanes[kLanes];
  store(lanes, v);
#pragma GCC unroll 4
  for (int part = 0; part < kLanes; part += kPart) {
    const int64_t at = line + part;
    if (at >= lines) break;
    float* panel = panels + at / width * width * words + at % width;
    memcpy(panel + k * width, lanes + part, kPart * sizeof(float));
  }
}

// Lines dense along k, as many words as fill vectors: kLanes lines at a time are transposed.
// Returns how many words of each line are packed.
template <int width, typename T>
static int64_t pack_dense_depth(const T* source, int64_t stride_line, int64_t lines, int64_t depth,
                                float* panels) {
  constexpr int64_t kPerWord = kPaired<T> ? 2 : 1;
  const int64_t whole = depth / kPerWord / kLanes * kLanes;
  for (int64_t line = 0; line < lines; line += kLanes) {
    const T* from = source + line * stride_line;
    for (int64_t k = 0; k < whole; k += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        block[i] = line + i < lines ? packed_words(from + i * stride_line + k * kPerWord) : zero();
      }
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        put_words<width>(block[i], line, lines, k + i, packed_depth<T>(depth), panels);
      }
    }
  }
  return whole;
}

// Lines that lie side by side. Returns how many words of each line are packed.
template <int width, typename T>
static int64_t pack_dense_lines(const T* source, int64_t stride_k, int64_t lines, int64_t depth,
                                float* panels) {
  constexpr int64_t kPerWord = kPaired<T> ? 2 : 1;
  constexpr int64_t kAhead = 8;
  const int64_t whole = depth / kPerWord;
  for (int64_t k = 0; k < whole; ++k) {
    const T* from = source + k * kPerWord * stride_k;
    for (int64_t line = 0; line < lines; line += kLanes) {
      const int64_t count = lines - line < kLanes ? lines - line : kLanes;
      // A stride defeats the hardware's prefetching. Past the end, the address is only a hint.
      __builtin_prefetch(from + line + kAhead * stride_k);
      const Vec words = packed_lines(from + line, stride_k, count);
      put_words<width>(words, line, lines, k, packed_depth<T>(depth), panels);
    }
  }
  return whole;
}

// Packs `lines` lines (rows of A, columns of B) of `depth` elements into panels of `width` lines
// each, one after the other: panel[k * width + line]. Lines beyond the last become zeros.
template <int width, typename T>
static void pack_panels(const T* source, int64_t stride_line, int64_t stride_k, int64_t lines,
                        int64_t depth, float* panels) {
  const int64_t words = packed_depth<T>(depth);
  const int64_t ragged = lines % width;
  if (ragged != 0) memset(panels + (lines - ragged) * words, 0, sizeof(float) * words * width);
  int64_t packed = 0;
  if (stride_k == 1) {
    packed = pack_dense_depth<width>(source, stride_line, lines, depth, panels);
  } else if (stride_line == 1) {
    packed = pack_dense_lines<width>(source, stride_k, lines, depth, panels);
  }
  for (int64_t line = 0; line < lines && packed < words; ++line) {
    float* panel = panels + line / width * width * words + line % width;
    for (int64_t k = packed; k < words; ++k) {
      panel[k * width] = packed_word(source + line * stride_line, stride_k, k, depth);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Product of two panels

template <bool paired>
PYMODEL_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
#ifdef PYMODEL_ISA_avx512_bf16
  if (paired) return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#endif
  return fma(a, b, c);
}

// A panel as the product reads it, packed or where it lies: word k of line i is
// at[i * line + k * word]. The lines of B are side by side in either case.
struct Panel {
  const float* at;
  int64_t line, word;

  Panel from(int64_t k) const { return {at + k * word, line, word}; }
};

PYMODEL_INLINE Panel packed_panel(const float* at, int64_t width) { return {at, 1, width}; }

// c (rows x cols, row stride ldc) = or += a (rows lines of words) * b (vecs * kLanes lines of
// words). `packed` says that both are, which spares the strides.
template <bool paired, bool packed, int rows, int vecs>
static void multiply_panels_fixed(int64_t words, Panel a, Panel b, float* __restrict c, int64_t ldc,
                                  int cols, bool accumulate) {
  constexpr int64_t kAhead = 24;  // words
  const float* __restrict a_at = a.at;
  const float* __restrict b_at = b.at;
  const int64_t a_line = packed ? 1 : a.line, a_word = packed ? kPanelRows : a.word;
  const int64_t b_word = packed ? kPanelCols : b.word;
  Vec sums[rows][vecs];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) sums[i][j] = zero();
  }
  // The tile of C is asked for now, so that it has arrived when the products are done.
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) __builtin_prefetch(c + i * ldc + j * kLanes, 1);
  }
  if (!packed) {  // and so are the first words of the next panel of A in place
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      __builtin_prefetch(a_at + (rows + i) * a_line);
      __builtin_prefetch(a_at + (rows + i) * a_line + kLanes * a_word);
    }
  }
  for (int64_t k = 0; k < words; ++k) {
    // The memory of A in place, whether a line of it holds words of a row or of a column, is asked
    // for a line a word: once or twice each. Past the end, the address is only a hint.
    if (!packed) __builtin_prefetch(a_at + k % kPanelRows * a_line + (k + kAhead) * a_word);
    Vec row[vecs];
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) row[j] = load(b_at + k * b_word + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vec factor = broadcast(a_at[k * a_word + i * a_line]);
#pragma GCC unroll 3
      for (int j = 0; j < vecs; ++j) sums[i][j] = multiply_add<paired>(factor, row[j], sums[i][j]);
    }
  }
  const int last = cols - (vecs - 1) * kLanes;
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < vecs; ++j) {
      float* out = c + i * ldc + j * kLanes;
      if (j < vecs - 1 || last == kLanes) {
        store(out, accumulate ? sums[i][j] + load(out) : sums[i][j]);
      } else {
        store_partial(out, accumulate ? sums[i][j] + load_partial(out, last) : sums[i][j], last);
      }
    }
  }
}

template <bool paired, bool packed, int rows>
PYMODEL_INLINE void multiply_panels_rows(int64_t words, Panel a, Panel b, float* c, int64_t ldc,
                                         int cols, bool accumulate) {
  if (cols > 2 * kLanes) {
    multiply_panels_fixed<paired, packed, rows, 3>(words, a, b, c, ldc, cols, accumulate);
  } else if (cols > kLanes) {
    multiply_panels_fixed<paired, packed, rows, 2>(words, a, b, c, ldc, cols, accumulate);
  } else {
    multiply_panels_fixed<paired, packed, rows, 1>(words, a, b, c, ldc, cols, accumulate);
  }
}

// The same for any rows in [1, kPanelRows] and cols in [1, kPanelCols].
template <bool paired, bool packed>
static void multiply_panels(int64_t words, Panel a, Panel b, float* c, int64_t ldc, int rows,
                            int cols, bool accumulate) {
  switch (rows) {
    case 1:
      return multiply_panels_rows<paired, packed, 1>(words, a, b, c, ldc, cols, accumulate);
    case 2:
      return multiply_panels_rows<paired, packed, 2>(words, a, b, c, ldc, cols, accumulate);
    case 3:
      return multiply_panels_rows<paired, packed, 3>(words, a, b, c, ldc, cols, accumulate);
    case 4:
      return multiply_panels_rows<paired, packed, 4>(words, a, b, c, ldc, cols, accumulate);
#ifdef PYMODEL_AVX512
    case 5:
      return multiply_panels_rows<paired, packed, 5>(words, a, b, c, ldc, cols, accumulate);
    case 6:
      return multiply_panels_rows<paired, packed, 6>(words, a, b, c, ldc, cols, accumulate);
    case 7:
      return multiply_panels_rows<paired, packed, 7>(words, a, b, c, ldc, cols, accumulate);
    default:
      return multiply_panels_rows<paired, packed, 8>(words, a, b, c, ldc, cols, accumulate);
#endif
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
