// Activations as operations of their own; the formulas are in core/activation.h.
#pragma once

#include "core/activation.h"
#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

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
