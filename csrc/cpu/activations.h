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

// d activate(x) / dx
template <Activation kind>
PYMODEL_INLINE Vec activation_derivative(Vec x) {
  const Vec one = broadcast(1.0f);
  switch (kind) {
    case Activation::relu:
      return select(x > zero(), one, zero());
    case Activation::gelu: {
      const Vec density = exp(x * x * -0.5f) * kInverseSqrtTwoPi;
      return fma(x, density, (erf(x * kSqrtHalf) + 1.0f) * 0.5f);
    }
    case Activation::gelu_tanh: {
      const Vec square = x * x;
      const Vec t = tanh(kSqrtTwoOverPi * fma(square * x, broadcast(kGeluCubic), x));
      const Vec inner = kSqrtTwoOverPi * fma(square, broadcast(3.0f * kGeluCubic), one);
      return (t + 1.0f) * 0.5f + x * 0.5f * (one - t * t) * inner;
    }
    case Activation::silu: {
      const Vec s = sigmoid(x);
      return s * fma(x, one - s, one);
    }
    case Activation::tanh: {
      const Vec t = tanh(x);
      return one - t * t;
    }
    case Activation::sigmoid: {
      const Vec s = sigmoid(x);
      return s * (one - s);
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
