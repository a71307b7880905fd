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

// max(low, x), with NaN staying NaN, as one instruction, where GCC makes two of it.
PYMODEL_INLINE Vec at_least(float low, Vec x) {
#ifdef PYMODEL_AVX512
  return _mm512_max_ps(broadcast(low), x);
#else
  return max(broadcast(low), x);
#endif
}

// e^x = 2^n e^r with n an integer and |r| at most ln(2) / 2.
struct ExpParts {
  Vec magic_n;   // 1.5 * 2^23 + n: its lowest bits are those of n
  Vec n;         // as a float
  Vec mantissa;  // e^r from the polynomial that was given
};

// Of e^r, with a relative error of at most 1.1e-7.
constexpr float kExpCoefficients[] = {1.0f,         1.0f,         0.5f,         0.16666415f,
                                      0.041666217f, 0.008375129f, 0.0013948581f};

template <int count>
PYMODEL_INLINE ExpParts exp_parts(const float (&coefficients)[count], Vec x) {
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  const Vec magic = broadcast(12582912.0f);
  const Vec magic_n = fma(x, broadcast(1.44269504f), magic);
  const Vec n = magic_n - magic;
  // ln 2 in two parts, the first exact in the products that occur.
  Vec r = fma(n, broadcast(-0.693359375f), x);
  r = fma(n, broadcast(2.12194440e-4f), r);
  return {magic_n, n, polynomial(coefficients, r)};
}

constexpr int32_t kMagicBits = 0x4b400000;  // of 1.5 * 2^23
constexpr float kExpLowest = -87.33f;       // below it, e^x would be subnormal

// `bounded` says that x is at most 88, which spares some care.
template <bool bounded>
PYMODEL_INLINE Vec exp_or_zero(Vec x) {
  const Vec below = bounded ? x : min(broadcast(89.0f), x);  // in this order NaN stays
#ifdef PYMODEL_AVX512
  const ExpParts parts = exp_parts(kExpCoefficients, below);
  // The mask also spares the scaling the slow path of subnormal results.
  const __mmask16 kept = _mm512_cmp_ps_mask(x, broadcast(kExpLowest), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(kept, parts.mantissa, parts.n);
#else
  const ExpParts parts = exp_parts(kExpCoefficients, max(broadcast(kExpLowest), below));
  // 2^n is put together in the exponent field, in two factors where n may reach 128.
  const IntVec exponent = reinterpret_cast<IntVec>(parts.magic_n) - kMagicBits;
  const IntVec half = bounded ? IntVec{} : exponent >> 1;
  Vec result = parts.mantissa;
  if (!bounded) result *= reinterpret_cast<Vec>((half + 127) << 23);
  result *= reinterpret_cast<Vec>((exponent - half + 127) << 23);
  return select(x < broadcast(kExpLowest), zero(), result);
#endif
}

// e^x with a relative error of at most 1.1e-7; 0 below -87.33 (where the result would be
// subnormal), infinity above 88.72, NaN for NaN.
PYMODEL_INLINE Vec exp(Vec x) { return exp_or_zero<false>(x); }

// The same for x up to 88: what a softmax needs, which subtracts the maximum first. NaN stays NaN.
PYMODEL_INLINE Vec exp_bounded(Vec x) { return exp_or_zero<true>(x); }

// e^x for x up to 88 by a polynomial of the caller's choice. Below -87.33 it stays at 2^-126, which
// vanishes beside the largest term of a softmax, 1. NaN stays NaN.
template <int count>
PYMODEL_INLINE Vec exp_or_tiny(const float (&coefficients)[count], Vec x) {
  const ExpParts parts = exp_parts(coefficients, at_least(kExpLowest, x));
  // The low bits of magic_n are n, which is added to the exponent as it is.
  const IntVec exponent = reinterpret_cast<IntVec>(parts.magic_n) << 23;
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(parts.mantissa) + exponent);
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
  const Vec bounded = min(broadcast(20.0f), magnitude);  // where it is 1; in this order NaN stays
  const Vec away =
      fma(reciprocal(exp_bounded(bounded * 2.0f) + 1.0f), broadcast(-2.0f), broadcast(1.0f));
  const Vec signed_away = select(x < zero(), -away, away);
  return select(magnitude < broadcast(0.625f), near_zero, signed_away);
}

// erf(x) for |x| <= 1, relative error at most 1.7e-7.
PYMODEL_INLINE Vec erf_near_zero(Vec x) {
  constexpr float kCoefficients[] = {1.1283791f,   -0.37612626f,   0.11283597f,   -0.026854329f,
                                     0.005189312f, -0.0008018855f, 7.8824974e-05f};
  return x * polynomial(kCoefficients, x * x);
}

// Gauss error function, absolute error at most 1.4e-7, relative 1.7e-7.
PYMODEL_INLINE Vec erf(Vec x) {
  // The logarithm of 1 - erf on [1, 4]; beyond 4 erf is 1 in float32.
  constexpr float kLarge[] = {0.00030321296f, -1.1301666f,     -0.6319371f,
                              -0.10997824f,   0.026364718f,    -0.0047402224f,
                              0.00059276953f, -4.5590623e-05f, 1.6140616e-06f};
  const Vec magnitude = abs(x);
  const Vec bounded = min(broadcast(4.0f), magnitude);  // in this order NaN stays
  const Vec away = broadcast(1.0f) - exp_bounded(polynomial(kLarge, bounded));
  const Vec signed_away = select(x < zero(), -away, away);
  return select(magnitude < broadcast(1.0f), erf_near_zero(x), signed_away);
}

struct Logistic {
  Vec value;  // 1 / (1 + e^-x), relative error at most 2e-7; 0 below -87
  Vec rest;   // 1 - value where value is not 0, to the same relative error: it does not cancel
};

PYMODEL_INLINE Logistic logistic(Vec x) {
  const Vec lowest = broadcast(-87.0f);  // where 1 / e^-x is nearly the least number
  const Vec e = exp_bounded(-max(lowest, x));
  const Vec value = select(x < lowest, zero(), reciprocal(e + 1.0f));
  return {value, e * value};
}

PYMODEL_INLINE Vec sigmoid(Vec x) { return logistic(x).value; }

}  // namespace pymodel::cpu::PYMODEL_ISA
