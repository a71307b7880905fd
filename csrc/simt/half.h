// __half, IEEE's 16-bit format, with the functions of <cuda_fp16.h> that kernels use. Arithmetic
// is done in float32 and rounded once, to nearest even, as the hardware does.
#pragma once

#include <cstdint>

#include "simt/bits.h"

namespace pymodel::simt {
namespace emulator {

// The 5-bit exponent lands in the lower part of the 8-bit one; a product with 2^112 moves it up,
// which also brings subnormal numbers into normal form. Infinity and NaN come out at 2^16 and
// above and get the exponent of their kind.
inline float half_to_float(uint16_t half) {
  const float scaled = bits_as<float>((half & 0x7fffu) << 13) * 0x1p112f;
  const uint32_t special = scaled >= 65536.0f ? 0x7f800000u : 0;
  return bits_as<float>(bits_as<uint32_t>(scaled) | special | (half & 0x8000u) << 16);
}

inline uint16_t float_to_half(float value) {
  const uint32_t bits = bits_as<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = bits >> 16 & 0x8000u;
  if (magnitude > 0x7f800000u) return 0x7fff;           // NaN
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the unit is 2^-24, which is that of floats at 0.5: the addition rounds.
    const float shifted = bits_as<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bits_as<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | rounded >> 13);
}

}  // namespace emulator

struct __half {
  uint16_t bits;

  __half() = default;
  __half(float value) : bits(emulator::float_to_half(value)) {}
  explicit __half(double value) : __half(static_cast<float>(value)) {}
  explicit __half(int value) : __half(static_cast<float>(value)) {}
  operator float() const { return emulator::half_to_float(bits); }
};
using half = __half;

#define PYMODEL_SIMT_TYPE __half
#define PYMODEL_SIMT_PAIR __half2
#include "simt/float16_operators.inc.h"
#undef PYMODEL_SIMT_TYPE
#undef PYMODEL_SIMT_PAIR
using half2 = __half2;

inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline float __half2float(__half x) { return x; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short bits) {
  __half x;
  x.bits = bits;
  return x;
}
inline __half2 __float2half2_rn(float x) { return {__half(x), __half(x)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }

}  // namespace pymodel::simt
