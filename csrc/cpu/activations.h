// Activations and their derivatives on Vec, for the gemm epilogue and the activation kernels.
// Both use these functions, so a fused result has the bits of the separate one.
#pragma once

#include "core/activation.h"
#include "cpu/math.h"

namespace pymodel::cpu::PYMODEL_ISA {

constexpr float kSqrtHalf = 0.70710678118654752f;
constexpr float kInverseSqrtTwoPi = 0.39894228040143268f;
constexpr float kSqrtTwoOverPi = 0.79788456080286536f;
constexpr float kGeluCubic = 0.044715f;  // Hendrycks and Gimpel, arXiv:1606.08415
// Beyond it gelu_tanh is x, or less than 1.3e-37 in magnitude and taken for 0; up to there e stays
// below the limits of exp_bounded and reciprocal_estimate.
constexpr float kGeluTanhEnd = 10.0f;

// (1 - Phi(x)) e^(x^2/2) for x >= 0, Phi being the normal distribution: times e^(-x^2/2) this gives
// 1 - Phi to an absolute error of 1.6e-8 before rounding (relatively 4e-5 at 4, 1e-3 at 13). The
// form is that of Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26, with one
// more term.
PYMODEL_INLINE Vec tail_over_density(Vec x) {
  constexpr float kCoefficients[] = {0.11596502f,  0.08088741f, 0.23419651f,
                                     -0.18552591f, 0.3546169f,  -0.100139946f};
  const Vec t = reciprocal(fma(x, broadcast(0.28284271f), broadcast(1.0f)));
  return t * polynomial(kCoefficients, t);
}

struct Normal {
  Vec density;  // e^(-x^2/2): Phi' without its factor 1 / sqrt(2 pi)
  Vec below;    // Phi(x)
};

PYMODEL_INLINE Normal normal_distribution(Vec x) {
  const Vec magnitude = min(broadcast(30.0f), abs(x));  // where Phi is 1; in this order NaN stays
  const Vec density = exp_bounded(x * x * -0.5f);
  const Vec tail = density * tail_over_density(magnitude);
  return {density, select(x < zero(), tail, 1.0f - tail)};
}

template <Activation kind>
PYMODEL_INLINE Vec activate(Vec x) {
  switch (kind) {
    case Activation::relu:
      return select(x != x, x, max(x, zero()));
    case Activation::gelu: {
      // Near 0 (erf_near_zero takes up to sqrt(2)) the erf rounds less; far below, where 1 + erf
      // would cancel, the tail does.
      const Vec near = fma(erf_near_zero(x * kSqrtHalf), broadcast(0.5f), broadcast(0.5f));
      return x * select(abs(x) < broadcast(1.4f), near, normal_distribution(x).below);
    }
    case Activation::gelu_tanh: {
      // x sigmoid(2 inner) is the same and does not cancel where 1 + tanh would. With fused
      // multiply-adds the sum 1 + e is kept in two parts, as its rounding would be most of the
      // error. -0 becomes 0, and so does -infinity, of which torch makes NaN.
      const Vec bounded = at_least(-kGeluTanhEnd, x);
      const Vec slope = fma(bounded * bounded, broadcast(-2.0f * kSqrtTwoOverPi * kGeluCubic),
                            broadcast(-2.0f * kSqrtTwoOverPi));
      const Vec e = exp_bounded(bounded * slope);
      const Vec sum = e + 1.0f, lost = e - (sum - 1.0f);
      const Vec estimate = reciprocal_estimate(sum), y = bounded * estimate;
      const Vec remainder = fma(-lost, y, fma(-sum, y, bounded));
      return select(abs(x) >= broadcast(kGeluTanhEnd), max(x, zero()), fma(remainder, estimate, y));
    }
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return tanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::none:
      break;
  }
  return x;
}

// d (x sigmoid(z)) / dx, given x z'
PYMODEL_INLINE Vec gated_derivative(Vec z, Vec x_slope) {
  const Logistic s = logistic(z);
  return s.value * fma(x_slope, s.rest, broadcast(1.0f));
}

// d activate(x) / dx
template <Activation kind>
PYMODEL_INLINE Vec activation_derivative(Vec x) {
  const Vec one = broadcast(1.0f);
  switch (kind) {
    case Activation::relu:
      return select(x > zero(), one, zero());
    case Activation::gelu: {
      const Normal normal = normal_distribution(x);
      return fma(x, normal.density * kInverseSqrtTwoPi, normal.below);
    }
    case Activation::gelu_tanh: {
      // Of x sigmoid(2 inner), which is the same. Beyond 9 it is 0 or 1 to float32, and the square
      // of a huge x would be infinite.
      const Vec bounded = min(broadcast(9.0f), max(broadcast(-9.0f), x));
      const Vec cubic = kGeluCubic * bounded * bounded;
      const Vec twice = 2.0f * kSqrtTwoOverPi * bounded;
      return gated_derivative(fma(twice, cubic, twice), twice * fma(cubic, broadcast(3.0f), one));
    }
    case Activation::silu:
      return gated_derivative(x, x);
    case Activation::tanh: {
      const Vec t = tanh(x);
      return one - t * t;
    }
    case Activation::sigmoid: {
      const Logistic s = logistic(x);
      return s.value * s.rest;
    }
    case Activation::none:
      break;
  }
  return one;
}

// Calls body with the activation as a compile-time constant: body(constant<kind>).
template <Activation kind>
struct ActivationConstant {
  static constexpr Activation value = kind;
};

template <typename Body>
PYMODEL_INLINE void dispatch_activation(Activation kind, const Body& body) {
  switch (kind) {
    case Activation::none:
      return body(ActivationConstant<Activation::none>{});
    case Activation::relu:
      return body(ActivationConstant<Activation::relu>{});
    case Activation::gelu:
      return body(ActivationConstant<Activation::gelu>{});
    case Activation::gelu_tanh:
      return body(ActivationConstant<Activation::gelu_tanh>{});
    case Activation::silu:
      return body(ActivationConstant<Activation::silu>{});
    case Activation::tanh:
      return body(ActivationConstant<Activation::tanh>{});
    case Activation::sigmoid:
      return body(ActivationConstant<Activation::sigmoid>{});
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
