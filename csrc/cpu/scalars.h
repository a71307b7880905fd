// Single elements of every floating storage type, to float and back: what cpu/simd.h does with
// vectors. Rounds to nearest even.
#pragma once

#include <stdint.h>
#include <string.h>

#include "core/dtype.h"
#include "cpu/isa.h"

#ifdef PYMODEL_AVX2
#include <immintrin.h>
#endif

namespace pymodel::cpu::PYMODEL_ISA {

PYMODEL_INLINE float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

PYMODEL_INLINE uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

PYMODEL_INLINE float to_float(float value) { return value; }
PYMODEL_INLINE float to_float(bfloat16 value) { return bits_to_float(uint32_t{value.bits} << 16); }

PYMODEL_INLINE float to_float(float16 value) {
#ifdef PYMODEL_AVX2
  return _cvtsh_ss(value.bits);
#else
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude << 13));
  // Scaling by 2^112 moves the exponent's bias and makes subnormals normal, exactly.
  return bits_to_float(sign | float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f));
#endif
}

PYMODEL_INLINE void from_float(float value, float* out) { *out = value; }

PYMODEL_INLINE void from_float(float value, bfloat16* out) {
  const uint32_t bits = float_to_bits(value);
  const bool nan = value != value;
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out->bits = static_cast<uint16_t>(nan ? ((bits >> 16) | 0x40u) : rounded);
}

PYMODEL_INLINE void from_float(float value, float16* out) {
#ifdef PYMODEL_AVX2
  out->bits = static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t bits = float_to_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;  // 65520 and above round to infinity
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 aligns the kept bits with the end of the significand and rounds.
    half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  out->bits = static_cast<uint16_t>(sign | half);
#endif
}

}  // namespace pymodel::cpu::PYMODEL_ISA
