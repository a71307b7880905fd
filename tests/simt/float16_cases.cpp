// Conversions of both 16-bit types: every bit pattern, and every float where rounding decides.
#include <cmath>

#include "harness.h"

namespace pymodel::simt::tests {
namespace {

// The value of a pattern with `exponent_bits` and `mantissa_bits`, by the definition.
double value_of(unsigned bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & top;
  const double mantissa = bits & ((1u << mantissa_bits) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == top) return mantissa == 0 ? sign * INFINITY : NAN;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, exponent - bias);
}

template <typename T>
T from_bits(unsigned bits) {
  T value;
  value.bits = static_cast<uint16_t>(bits);
  return value;
}

// Each pattern converts to its value and back to itself.
template <typename T>
Outcome check_patterns(int exponent_bits, int mantissa_bits) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const double value = value_of(bits, exponent_bits, mantissa_bits);
    const float converted = from_bits<T>(bits);
    const uint16_t back = T(converted).bits;
    const bool right = std::isnan(value) ? std::isnan(converted) && std::isnan(float(T(converted)))
                                         : converted == value && back == bits &&
                                               std::signbit(converted) == std::signbit(value);
    if (!right) return "wrong: pattern " + std::to_string(bits);
  }
  return "ok";
}

// Between neighbouring numbers, the middle goes to the even one, and the floats beside the middle
// to the nearer. Above the largest number lies infinity, at the next step of the same size.
template <typename T>
Outcome check_rounding(int exponent_bits, int mantissa_bits) {
  const unsigned infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  for (unsigned bits = 0; bits < infinity; ++bits) {
    const double low = value_of(bits, exponent_bits, mantissa_bits);
    const double step = bits == 0 ? value_of(1, exponent_bits, mantissa_bits)
                                  : low - value_of(bits - 1, exponent_bits, mantissa_bits);
    const bool last = bits + 1 == infinity;
    const double high = last ? low + step : value_of(bits + 1, exponent_bits, mantissa_bits);
    const float middle = static_cast<float>((low + high) / 2);
    const unsigned even = bits % 2 == 0 ? bits : bits + 1;
    const bool right = T(middle).bits == even && T(-middle).bits == (even | 0x8000) &&
                       T(std::nextafterf(middle, 0.0f)).bits == bits &&
                       T(std::nextafterf(middle, INFINITY)).bits == bits + 1;
    if (!right) return "wrong: above pattern " + std::to_string(bits);
  }
  return "ok";
}

}  // namespace

SIMT_CASE(half_patterns) { return check_patterns<__half>(5, 10); }
SIMT_CASE(half_rounding) { return check_rounding<__half>(5, 10); }
SIMT_CASE(bfloat16_patterns) { return check_patterns<__nv_bfloat16>(8, 7); }
SIMT_CASE(bfloat16_rounding) { return check_rounding<__nv_bfloat16>(8, 7); }

SIMT_CASE(float16_functions) {
  const __half2 pair = __floats2half2_rn(1.5f, -2.0f);
  SIMT_EXPECT(__low2float(pair) == 1.5f && __high2float(pair) == -2.0f);
  SIMT_EXPECT(__half22float2(pair).y == -2.0f);
  SIMT_EXPECT(__half_as_ushort(__float2half(1.0f)) == 0x3c00);
  const __nv_bfloat162 wide = __floats2bfloat162_rn(3.0f, 0.25f);
  SIMT_EXPECT(__bfloat1622float2(wide).x == 3.0f && __bfloat1622float2(wide).y == 0.25f);
  SIMT_EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f)) == 0x3f80);
  SIMT_EXPECT(float(__half(2.0f) * __half(3.0f)) == 6.0f && __half(1.0f) < __half(2.0f));
  SIMT_EXPECT(sizeof(__half2) == 4 && alignof(__nv_bfloat162) == 4);
  return "ok";
}

SIMT_CASE(bit_functions) {
  SIMT_EXPECT(__brev(1u) == 0x80000000u && __popc(0xf0u) == 4 && __clz(1) == 31 && __ffs(8) == 4);
  SIMT_EXPECT(__umulhi(0x80000000u, 6u) == 3u);
  SIMT_EXPECT(__byte_perm(0x33221100u, 0x77665544u, 0x7531u) == 0x77553311u);
  SIMT_EXPECT(__byte_perm(0x80u, 0u, 0x0008u) == 0x808080ffu);
  SIMT_EXPECT(sinpif(0.5f) == 1.0f && cospif(1.0f) == -1.0f && sinpif(1e7f) == 0.0f);
  SIMT_EXPECT(fabsf(sinpif(2.25f) - 0.70710678f) < 1e-7f && cospif(-1.5f) == 0.0f);
  return "ok";
}

}  // namespace pymodel::simt::tests
