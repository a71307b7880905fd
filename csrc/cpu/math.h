// Elementary functions on Vec. The polynomials are our own least-squares fits at Chebyshev nodes,
// evaluated in float32 over a dense grid against float64; the errors found are stated.
#pragma once

#include "cpu/simd.h"

namespace pymodel::cpu::PYMODEL_ISA {

PYMODEL_INLINE Vec infinity() { return broadcast(__builtin_inff()); }

// Where the mask (all ones or all zeros a lane, as comparisons give) is set, a; else b.
PYMODEL_INLINE Vec select(IntVec mask, Vec a, Vec b) { return mask ? a : b; }

// sum of coefficients[i] * x^i
template <int count>
PYMODEL_INLINE Vec polynomial(const float (&coefficients)[count], Vec x) {
  Vec result = broadcast(coefficients[count - 1]);
#pragma GCC unroll 16
  for (int i = count - 2; i >= 0; --i) result = fma(result, x, broadcast(coefficients[i]));
  return result;
}

// e^x with a relative error of at most 1.1e-7; 0 below -87.33 (where the result would be
// subnormal), infinity above 88.72, NaN for NaN.
PYMODEL_INLINE Vec exp(Vec x) {
  constexpr float kCoefficients[] = {1.0f,         1.0f,         0.5f,         0.16666415f,
                                     0.041666217f, 0.008375129f, 0.0013948581f};
  const Vec bounded = min(max(broadcast(-87.33f), x), broadcast(88.72f));
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  const Vec magic = broadcast(12582912.0f);
  const Vec shifted = fma(bounded, broadcast(1.44269504f), magic);
  const Vec n = shifted - magic;
  // ln 2 in two parts, the first exact in the products that occur.
  Vec r = fma(n, broadcast(-0.693359375f), bounded);
  r = fma(n, broadcast(2.12194440e-4f), r);
  // 2^n is put together in the exponent field, in two factors because n reaches 128.
  const IntVec exponent = reinterpret_cast<IntVec>(shifted) - reinterpret_cast<IntVec>(magic);
  const IntVec half = exponent >> 1;
  const Vec scale = reinterpret_cast<Vec>((half + 127) << 23);
  const Vec rest = reinterpret_cast<Vec>((exponent - half + 127) << 23);
  Vec result = polynomial(kCoefficients, r) * scale * rest;
  result = select(x < broadcast(-87.33f), zero(), result);
  result = select(x > broadcast(88.72f), infinity(), result);
  return select(x == x, result, x);
}

// e^x as `exp` gives it for x up to 88, without the care for larger x: what a softmax needs, which
// subtracts the maximum first. NaN stays NaN.
PYMODEL_INLINE Vec exp_bounded(Vec x) {
  constexpr float kCoefficients[] = {1.0f,         1.0f,         0.5f,         0.16666415f,
                                     0.041666217f, 0.008375129f, 0.0013948581f};
  const Vec bounded = max(broadcast(-87.33f), x);  // keeps NaN, the second argument
  const Vec magic = broadcast(12582912.0f);
  const Vec shifted = fma(bounded, broadcast(1.44269504f), magic);
  const Vec n = shifted - magic;
  Vec r = fma(n, broadcast(-0.693359375f), bounded);
  r = fma(n, broadcast(2.12194440e-4f), r);
  // n is at most 127 here: one factor holds 2^n.
  const IntVec exponent = reinterpret_cast<IntVec>(shifted) - reinterpret_cast<IntVec>(magic);
  const Vec scale = reinterpret_cast<Vec>((exponent + 127) << 23);
  return select(x < broadcast(-87.33f), zero(), polynomial(kCoefficients, r) * scale);
}

// Natural logarithm, relative error at most 1.2e-7; -infinity at 0, NaN below.
PYMODEL_INLINE Vec log(Vec x) {
  constexpr float kCoefficients[] = {0.3333333f,  -0.2499999f,  0.20000708f,
                                     -0.1666848f, 0.14249937f,  -0.124110505f,
                                     0.11661511f, -0.11571201f, 0.07149754f};
  // Subnormals are scaled into the normal range first.
  const IntVec tiny = x < broadcast(1.17549435e-38f);
  const Vec scaled = select(tiny, x * broadcast(8388608.0f), x);
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
  const IntVec bits = reinterpret_cast<IntVec>(scaled) - 0x3f3504f3;
  const IntVec exponent = bits >> 23;
  const Vec m = reinterpret_cast<Vec>((bits & 0x007fffff) + 0x3f3504f3) - broadcast(1.0f);
  const Vec e = __builtin_convertvector(exponent, Vec) - select(tiny, broadcast(23.0f), zero());
  Vec result = polynomial(kCoefficients, m) * m * m * m;
  result = fma(e, broadcast(-2.12194440e-4f), result);
  result = fma(m * m, broadcast(-0.5f), result) + m;
  result = fma(e, broadcast(0.693359375f), result);
  result = select(x == zero(), -infinity(), result);
  result = select(x == infinity(), x, result);
  return select(x >= zero(), result, broadcast(__builtin_nanf("")));
}

// Relative error at most 2e-7.
PYMODEL_INLINE Vec tanh(Vec x) {
  constexpr float kCoefficients[] = {1.0f,         -0.33333263f, 0.1333115f,
                                     -0.05372268f, 0.020595679f, -0.005664775f};
  const Vec near_zero = x * polynomial(kCoefficients, x * x);
  const Vec magnitude = abs(x);
  const Vec away = broadcast(1.0f) - broadcast(2.0f) / (exp(magnitude * 2.0f) + 1.0f);
  const Vec signed_away = select(x < zero(), -away, away);
  return select(magnitude < broadcast(0.625f), near_zero, signed_away);
}

// Gauss error function, absolute error at most 1.4e-7, relative 1.7e-7.
PYMODEL_INLINE Vec erf(Vec x) {
  constexpr float kSmall[] = {1.1283791f,   -0.37612626f,   0.11283597f,   -0.026854329f,
                              0.005189312f, -0.0008018855f, 7.8824974e-05f};
  // The logarithm of 1 - erf on [1, 4]; beyond 4 erf is 1 in float32.
  constexpr float kLarge[] = {0.00030321296f, -1.1301666f,     -0.6319371f,
                              -0.10997824f,   0.026364718f,    -0.0047402224f,
                              0.00059276953f, -4.5590623e-05f, 1.6140616e-06f};
  const Vec magnitude = abs(x);
  const Vec near_zero = x * polynomial(kSmall, x * x);
  const Vec bounded = min(broadcast(4.0f), magnitude);  // in this order NaN stays
  const Vec away = broadcast(1.0f) - exp(polynomial(kLarge, bounded));
  const Vec signed_away = select(x < zero(), -away, away);
  return select(magnitude < broadcast(1.0f), near_zero, signed_away);
}

PYMODEL_INLINE Vec sigmoid(Vec x) { return broadcast(1.0f) / (broadcast(1.0f) + exp(-x)); }

}  // namespace pymodel::cpu::PYMODEL_ISA
