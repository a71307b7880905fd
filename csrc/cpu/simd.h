// Float vectors of the instruction set being compiled for: `Vec`, its loads and stores from every
// floating storage type, and the arithmetic that the compiler's vector extension does not spell.
//
// Vec supports + - * / and comparisons directly. Element types narrower than float are widened on
// load and rounded to nearest even on store.
#pragma once

#include <stdint.h>
#include <string.h>

#include "cpu/scalars.h"

#ifdef PYMODEL_AVX2
#include <immintrin.h>
#endif

namespace pymodel::cpu::PYMODEL_ISA {

#if defined(PYMODEL_AVX512)
constexpr int kLanes = 16;
#elif defined(PYMODEL_AVX2)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));
typedef uint16_t HalfBits __attribute__((vector_size(2 * kLanes)));

// ---------------------------------------------------------------------------------------------
// Loads, stores and conversions

PYMODEL_INLINE Vec broadcast(float value) {
#if defined(PYMODEL_AVX512)
  return _mm512_set1_ps(value);
#elif defined(PYMODEL_AVX2)
  return _mm256_set1_ps(value);
#else
  return Vec{value, value, value, value};
#endif
}

PYMODEL_INLINE Vec zero() { return Vec{}; }

// 0, 1, ..., kLanes - 1
PYMODEL_INLINE IntVec lane_numbers() {
  IntVec lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane;
}

PYMODEL_INLINE Vec load(const float* p) {
  Vec v;
  memcpy(&v, p, sizeof v);
  return v;
}

PYMODEL_INLINE Vec load(const bfloat16* p) {
#if defined(PYMODEL_AVX512)
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return reinterpret_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif defined(PYMODEL_AVX2)
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<Vec>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#else
  HalfBits bits;
  memcpy(&bits, p, sizeof bits);
  typedef uint32_t Wide __attribute__((vector_size(4 * kLanes)));
  return reinterpret_cast<Vec>(__builtin_convertvector(bits, Wide) << 16);
#endif
}

PYMODEL_INLINE Vec load(const float16* p) {
#if defined(PYMODEL_AVX512)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(PYMODEL_AVX2)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = to_float(p[i]);
  return v;
#endif
}

// The bits of a vector rounded to the type of `p`, which is not read.
PYMODEL_INLINE HalfBits rounded_bits(Vec v, const bfloat16*) {
#if defined(PYMODEL_ISA_avx512_bf16)
  return reinterpret_cast<HalfBits>(_mm512_cvtneps_pbh(v));
#else
  typedef uint32_t Wide __attribute__((vector_size(4 * kLanes)));
  const Wide bits = reinterpret_cast<Wide>(v);
  const Wide rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Wide kept = (v != v) ? ((bits >> 16) | 0x40u) : rounded;
  return __builtin_convertvector(kept, HalfBits);
#endif
}

PYMODEL_INLINE HalfBits rounded_bits(Vec v, const float16*) {
#if defined(PYMODEL_AVX512)
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return reinterpret_cast<HalfBits>(_mm512_cvtps_ph(v, kNearest));
#elif defined(PYMODEL_AVX2)
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return reinterpret_cast<HalfBits>(_mm256_cvtps_ph(v, kNearest));
#else
  float16 halves[kLanes];
  for (int i = 0; i < kLanes; ++i) from_float(v[i], halves + i);
  HalfBits bits;
  memcpy(&bits, halves, sizeof bits);
  return bits;
#endif
}

PYMODEL_INLINE void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }

template <typename T>
PYMODEL_INLINE void store(T* p, Vec v) {
  const HalfBits bits = rounded_bits(v, p);
  memcpy(p, &bits, sizeof bits);
}

// The first `count` (0 to kLanes) elements; the other lanes are zero and are not touched in memory.
template <typename T>
PYMODEL_INLINE Vec load_partial(const T* p, int64_t count) {
  T buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}

template <typename T>
PYMODEL_INLINE void store_partial(T* p, Vec v, int64_t count) {
  T buffer[kLanes];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}

#ifdef PYMODEL_AVX512
constexpr __mmask16 kAllLanes = 0xffff;

PYMODEL_INLINE __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}
PYMODEL_INLINE Vec load_partial(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(first_lanes(count), p);
}
PYMODEL_INLINE Vec load_partial(const bfloat16* p, int64_t count) {
  const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(count), p);
  return reinterpret_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
PYMODEL_INLINE Vec load_partial(const float16* p, int64_t count) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
PYMODEL_INLINE void store_partial(float* p, Vec v, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), v);
}
template <typename T>
PYMODEL_INLINE void store_half_partial(T* p, Vec v, int64_t count) {
  _mm256_mask_storeu_epi16(p, first_lanes(count), reinterpret_cast<__m256i>(rounded_bits(v, p)));
}
PYMODEL_INLINE void store_partial(bfloat16* p, Vec v, int64_t count) {
  store_half_partial(p, v, count);
}
PYMODEL_INLINE void store_partial(float16* p, Vec v, int64_t count) {
  store_half_partial(p, v, count);
}
#endif

// The first `count` (1 to kLanes) elements, at full speed where all are wanted.
template <typename T>
PYMODEL_INLINE Vec load_lanes(const T* p, int64_t count) {
  return count == kLanes ? load(p) : load_partial(p, count);
}
template <typename T>
PYMODEL_INLINE void store_lanes(T* p, Vec v, int64_t count) {
  if (count == kLanes) return store(p, v);
  store_partial(p, v, count);
}

// Zeros the lanes from `count` on.
PYMODEL_INLINE Vec keep_lanes(Vec v, int64_t count) {
  if (count == kLanes) return v;
#ifdef PYMODEL_AVX512
  return _mm512_maskz_mov_ps(first_lanes(count), v);
#else
  float lanes[kLanes];
  store(lanes, v);
  return load_partial(lanes, count);
#endif
}

// Results beyond this many bytes do not stay in the caches until they are read again: written past
// them (`stream`), they need not be fetched first.
constexpr int64_t kStreamBytes = int64_t{16} << 20;

// Stores a whole vector past the caches; `p` is aligned to the vector's bytes in memory.
template <typename T>
PYMODEL_INLINE void stream(T* p, Vec v) {
#if defined(PYMODEL_AVX512)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(rounded_bits(v, p)));
#elif defined(PYMODEL_AVX2)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), reinterpret_cast<__m128i>(rounded_bits(v, p)));
#else
  store(p, v);
#endif
}
PYMODEL_INLINE void stream(float* p, Vec v) {
#if defined(PYMODEL_AVX512)
  _mm512_stream_ps(p, v);
#elif defined(PYMODEL_AVX2)
  _mm256_stream_ps(p, v);
#else
  store(p, v);
#endif
}

// Makes what this thread streamed visible to others: to be called before it is done.
PYMODEL_INLINE void finish_streaming() {
#ifdef PYMODEL_AVX2
  _mm_sfence();
#endif
}

// out[i] = value(first element, lanes in use) along a row; past the caches if `streaming`. Then
// single steps lead up to the first aligned vector.
template <typename T, typename Value>
PYMODEL_INLINE void write_row(T* out, int64_t count, bool streaming, const Value& value) {
  constexpr int64_t kBytes = kLanes * static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  if (streaming) {
    const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kBytes);
    const int64_t lead = past == 0 ? 0 : (kBytes - past) / static_cast<int64_t>(sizeof(T));
    if (lead > 0 && lead < count) store_partial(out, value(0, lead), lead);
    if (lead < count) i = lead;
    for (; lead < count && i + kLanes <= count; i += kLanes) stream(out + i, value(i, kLanes));
  } else {
    for (; i + kLanes <= count; i += kLanes) store(out + i, value(i, kLanes));
  }
  if (i < count) store_partial(out + i, value(i, count - i), count - i);
}

// Calls body(first element, lanes in use) along a row.
template <typename Body>
PYMODEL_INLINE void for_each_vector(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, int64_t{kLanes});
  if (i < count) body(i, count - i);
}

// ---------------------------------------------------------------------------------------------
// Arithmetic

// a * b + c, rounded once where the instruction set can.
PYMODEL_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(PYMODEL_AVX512)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(PYMODEL_AVX2)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// NaN in `a` is dropped, as by the machine's own instruction: max(NaN, b) = b.
// Spelled out because the compiler makes a comparison and a blend of the conditional; with a mask
// of all lanes because GCC 12 warns of its own header's undefined operand otherwise (bug 105593).
PYMODEL_INLINE Vec max(Vec a, Vec b) {
#if defined(PYMODEL_AVX512)
  return _mm512_mask_max_ps(a, kAllLanes, a, b);
#elif defined(PYMODEL_AVX2)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
PYMODEL_INLINE Vec min(Vec a, Vec b) {
#if defined(PYMODEL_AVX512)
  return _mm512_mask_min_ps(a, kAllLanes, a, b);
#elif defined(PYMODEL_AVX2)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

PYMODEL_INLINE Vec abs(Vec a) {
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(a) & 0x7fffffff);
}

PYMODEL_INLINE Vec sqrt(Vec a) {
#if defined(PYMODEL_AVX512)
  return _mm512_sqrt_ps(a);
#elif defined(PYMODEL_AVX2)
  return _mm256_sqrt_ps(a);
#else
  Vec r;
  for (int i = 0; i < kLanes; ++i) r[i] = __builtin_sqrtf(a[i]);
  return r;
#endif
}

// 1 / a to 14 bits at least, for magnitudes from 2^-126 to 2^126; NaN stays.
PYMODEL_INLINE Vec reciprocal_estimate(Vec a) {
#ifdef PYMODEL_AVX512
  return _mm512_rcp14_ps(a);
#else
  return broadcast(1.0f) / a;
#endif
}

// The same to an ulp.
PYMODEL_INLINE Vec reciprocal(Vec a) {
#ifdef PYMODEL_AVX512
  // One step of Newton's method: the divider takes six times as long.
  const Vec estimate = reciprocal_estimate(a);
  return fma(estimate, fma(-a, estimate, broadcast(1.0f)), estimate);
#else
  return reciprocal_estimate(a);
#endif
}

// All lanes joined by op(a, b): the upper half with the lower one, until one lane is left. So the
// order, and with it the rounding, is fixed.
template <typename Op>
PYMODEL_INLINE float fold(Vec v, const Op& op) {
#if defined(PYMODEL_AVX512)
  const auto eight = op(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                        __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#elif defined(PYMODEL_AVX2)
  const Vec eight = v;
#endif
#if defined(PYMODEL_AVX2)
  const auto four = op(__builtin_shufflevector(eight, eight, 0, 1, 2, 3),
                       __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
#else
  const Vec four = v;
#endif
  const auto two = op(four, __builtin_shufflevector(four, four, 2, 3, 2, 3));
  return op(two, __builtin_shufflevector(two, two, 1, 1, 1, 1))[0];
}

PYMODEL_INLINE float sum(Vec v) {
  return fold(v, [](auto a, auto b) { return a + b; });
}

PYMODEL_INLINE float max_lane(Vec v) {
  return fold(v, [](auto a, auto b) { return a > b ? a : b; });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
