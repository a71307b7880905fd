// Activations and their derivatives in float32, for gemm's epilogue and the kernels of their own:
// one set of functions, so that a fused result has the bits of the separate one.
#pragma once

#include <cuda_runtime.h>

#include "core/activation.h"

namespace pymodel::PYMODEL_BACKEND {

constexpr float kSqrtHalf = 0.70710678118654752f;
constexpr float kInverseSqrtTwoPi = 0.39894228040143268f;
constexpr float kSqrtTwoOverPi = 0.79788456080286536f;
constexpr float kGeluCubic = 0.044715f;  // Hendrycks and Gimpel, arXiv:1606.08415

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The kind is the same for all threads of a launch, so the branch never diverges.
__device__ __forceinline__ float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::relu:
      return x < 0.0f ? 0.0f : x;  // NaN stays
    case Activation::gelu:
      return x * 0.5f * (erff(x * kSqrtHalf) + 1.0f);
    case Activation::gelu_tanh:
      return x * 0.5f * (tanhf(kSqrtTwoOverPi * fmaf(x * x * x, kGeluCubic, x)) + 1.0f);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return tanhf(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::none:
      break;
  }
  return x;
}

// d activate(x) / dx
__device__ __forceinline__ float activation_derivative(Activation kind, float x) {
  switch (kind) {
    case Activation::relu:
      return x > 0.0f ? 1.0f : 0.0f;
    case Activation::gelu: {
      const float density = expf(x * x * -0.5f) * kInverseSqrtTwoPi;
      return fmaf(x, density, (erff(x * kSqrtHalf) + 1.0f) * 0.5f);
    }
    case Activation::gelu_tanh: {
      const float square = x * x;
      const float t = tanhf(kSqrtTwoOverPi * fmaf(square * x, kGeluCubic, x));
      const float inner = kSqrtTwoOverPi * fmaf(square, 3.0f * kGeluCubic, 1.0f);
      return (t + 1.0f) * 0.5f + x * 0.5f * (1.0f - t * t) * inner;
    }
    case Activation::silu: {
      const float s = sigmoid(x);
      return s * fmaf(x, 1.0f - s, 1.0f);
    }
    case Activation::tanh: {
      const float t = tanhf(x);
      return 1.0f - t * t;
    }
    case Activation::sigmoid: {
      const float s = sigmoid(x);
      return s * (1.0f - s);
    }
    case Activation::none:
      break;
  }
  return 1.0f;
}

template <Activation kind>
struct KindConstant {
  static constexpr Activation value = kind;
};

// Calls body with the activation as a compile-time constant.
template <typename Body>
__device__ __forceinline__ void dispatch_kind(Activation kind, const Body& body) {
  switch (kind) {
    case Activation::none:
      return body(KindConstant<Activation::none>{});
    case Activation::relu:
      return body(KindConstant<Activation::relu>{});
    case Activation::gelu:
      return body(KindConstant<Activation::gelu>{});
    case Activation::gelu_tanh:
      return body(KindConstant<Activation::gelu_tanh>{});
    case Activation::silu:
      return body(KindConstant<Activation::silu>{});
    case Activation::tanh:
      return body(KindConstant<Activation::tanh>{});
    case Activation::sigmoid:
      return body(KindConstant<Activation::sigmoid>{});
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
