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

template <Activation kind>
PYMODEL_INLINE Vec activate(Vec x) {
  switch (kind) {
    case Activation::relu:
      return select(x != x, x, max(x, zero()));
    case Activation::gelu:
      return x * 0.5f * (erf(x * kSqrtHalf) + 1.0f);
    case Activation::gelu_tanh: {
      // x sigmoid(2 inner) is the same and needs no tanh, but rounds more near 0, where most
      // activations are.
      const Vec inner = kSqrtTwoOverPi * fma(x * x * x, broadcast(kGeluCubic), x);
      return x * 0.5f * (tanh(inner) + 1.0f);
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
      const Vec density = exp_bounded(x * x * -0.5f) * kInverseSqrtTwoPi;
      return fma(x, density, (erf(x * kSqrtHalf) + 1.0f) * 0.5f);
    }
    case Activation::gelu_tanh: {
      // Beyond 9 it is 0 or 1 to float32, and the square of a huge x would be infinite.
      const Vec bounded = min(broadcast(9.0f), max(broadcast(-9.0f), x));
      const Vec square = bounded * bounded;
      const Vec t = tanh(kSqrtTwoOverPi * fma(square * bounded, broadcast(kGeluCubic), bounded));
      const Vec inner = kSqrtTwoOverPi * fma(square, broadcast(3.0f * kGeluCubic), one);
      return (t + 1.0f) * 0.5f + bounded * 0.5f * (one - t * t) * inner;
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
