// Philox for kLanes counters at a time: the words of 4 * kLanes neighbouring elements.
#pragma once

#include "core/philox.h"
#include "cpu/simd.h"

namespace pymodel::cpu::PYMODEL_ISA {

typedef uint32_t WordVec __attribute__((vector_size(4 * kLanes)));

// Elements whose words are drawn together.
constexpr int64_t kPhiloxGroup = 4 * kLanes;

struct PhiloxLanes {
  WordVec word[4];  // word w of lane i belongs to element 4 * i + w of the group
};

// The 64-bit products of 32-bit lanes by one factor, as high and low halves.
PYMODEL_INLINE void wide_multiply(WordVec a, uint32_t factor, WordVec* high, WordVec* low) {
#if defined(PYMODEL_AVX512)
  const __m512i lanes = reinterpret_cast<__m512i>(a);
  const __m512i factors = _mm512_set1_epi64(factor);
  const __m512i even = _mm512_mul_epu32(lanes, factors);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(lanes, 32), factors);
  constexpr __mmask16 kOddLanes = 0xaaaa;
  *high = reinterpret_cast<WordVec>(
      _mm512_mask_blend_epi32(kOddLanes, _mm512_srli_epi64(even, 32), odd));
  *low = reinterpret_cast<WordVec>(
      _mm512_mask_blend_epi32(kOddLanes, even, _mm512_slli_epi64(odd, 32)));
#elif defined(PYMODEL_AVX2)
  const __m256i lanes = reinterpret_cast<__m256i>(a);
  const __m256i factors = _mm256_set1_epi64x(factor);
  const __m256i even = _mm256_mul_epu32(lanes, factors);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(lanes, 32), factors);
  *high = reinterpret_cast<WordVec>(_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa));
  *low = reinterpret_cast<WordVec>(_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa));
#else
  for (int i = 0; i < kLanes; ++i) {
    const uint64_t product = uint64_t{a[i]} * factor;
    (*high)[i] = static_cast<uint32_t>(product >> 32);
    (*low)[i] = static_cast<uint32_t>(product);
  }
#endif
}

// The ten rounds on one 128-bit counter a lane, given as its four words, lowest first. Lane by lane
// the result equals philox() of core/philox.h, which says what the rounds are.
PYMODEL_INLINE PhiloxLanes philox_of_counters(uint64_t seed, PhiloxLanes c) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    WordVec high0 = {}, low0 = {}, high1 = {}, low1 = {};
    wide_multiply(c.word[0], kPhiloxMultiplier0, &high0, &low0);
    wide_multiply(c.word[2], kPhiloxMultiplier1, &high1, &low1);
    c.word[0] = high1 ^ c.word[1] ^ key0;
    c.word[1] = low1;
    c.word[2] = high0 ^ c.word[3] ^ key1;
    c.word[3] = low0;
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return c;
}

// The words of elements first to first + kPhiloxGroup - 1; `first` is a multiple of kPhiloxGroup.
// They equal philox_word(seed, offset, element) of core/philox.h.
PYMODEL_INLINE PhiloxLanes philox_lanes(uint64_t seed, uint64_t offset, uint64_t first) {
  const uint64_t counter = first >> 2;  // a multiple of kLanes: adding the lane never carries
  PhiloxLanes c = {};
  for (int i = 0; i < kLanes; ++i) c.word[0][i] = static_cast<uint32_t>(i);
  c.word[0] += static_cast<uint32_t>(counter);
  c.word[1] += static_cast<uint32_t>(counter >> 32);
  c.word[2] += static_cast<uint32_t>(offset);
  c.word[3] += static_cast<uint32_t>(offset >> 32);
  return philox_of_counters(seed, c);
}

// Lays four vectors out in the order of the elements: lane i of vector w becomes out[4 * i + w].
template <typename Vector, typename T>
PYMODEL_INLINE void interleave(const Vector (&vectors)[4], T* out) {
  for (int i = 0; i < kLanes; ++i) {
    for (int w = 0; w < 4; ++w) out[4 * i + w] = vectors[w][i];
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
