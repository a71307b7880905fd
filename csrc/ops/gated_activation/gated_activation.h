// The product of a gated feed-forward network: an activated gate times what it lets through.
//
//   y = f(gate) * up
//
// One floating type, one shape, any strides; the arithmetic is float32 and rounded once.
//
// Source: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
#pragma once

#include "core/activation.h"
#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct GatedActivationForward {
  Activation activation = Activation::none;
  TensorView gate;
  TensorView up;
  TensorView y;
};

// Both gradients in one pass over what was saved:
//
//   dgate = dy * up * f'(gate)        dup = dy * f(gate)
struct GatedActivationBackward {
  Activation activation = Activation::none;
  TensorView dy;
  TensorView gate;
  TensorView up;
  TensorView dgate;
  TensorView dup;
};

PYMODEL_DECLARE_KERNEL(gated_activation_forward, GatedActivationForward)
PYMODEL_DECLARE_KERNEL(gated_activation_backward, GatedActivationBackward)

}  // namespace pymodel
