// The activations that gemm applies in its epilogue and that exist as operations of their own.
#pragma once

#include "core/isa.h"
#include "core/tensor_view.h"

namespace pymodel {

enum class Activation : uint8_t {
  none,
  relu,
  gelu,       // x * Phi(x), with the Gauss error function
  gelu_tanh,  // its tanh approximation, GPT-2's "gelu_new"
  silu,       // x * sigmoid(x)
  tanh,
  sigmoid,
};

// out = activation(x). One floating type, one shape, any strides.
struct ActivationForward {
  Activation activation = Activation::none;
  TensorView x;
  TensorView out;
};

// dx = dy * activation'(x), evaluated in float32 and rounded once.
struct ActivationBackward {
  Activation activation = Activation::none;
  TensorView dy;
  TensorView x;
  TensorView dx;
};

PYMODEL_DECLARE_KERNEL(activation_forward, ActivationForward)
PYMODEL_DECLARE_KERNEL(activation_backward, ActivationBackward)

}  // namespace pymodel
