// Softmax and its logarithm along the middle dimension of (outer, classes, inner).
//
//   softmax      y = exp(x - m) / s        m = max(x), s = sum of exp(x - m) over the classes
//   log_softmax  y = x - m - log(s)
//
// All tensors have one floating dtype; the arithmetic is float32. When inner is 1 the classes must
// be dense, else inner must be. A slice that is all -infinity has no distribution: its softmax is
// zeros, its log_softmax -infinity, and its gradient zeros, as a fully masked attention row asks.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct SoftmaxForward {
  TensorView x;  // (outer, classes, inner)
  TensorView y;  // (outer, classes, inner)
  bool logarithm = false;
};

// From the output alone:
//   softmax      dx = y * (dy - sum of dy * y)
//   log_softmax  dx = dy - exp(y) * sum of dy
struct SoftmaxBackward {
  TensorView dy;  // (outer, classes, inner)
  TensorView y;   // (outer, classes, inner)
  TensorView dx;  // (outer, classes, inner)
  bool logarithm = false;
};

PYMODEL_DECLARE_KERNEL(softmax_forward, SoftmaxForward)
PYMODEL_DECLARE_KERNEL(softmax_backward, SoftmaxBackward)

}  // namespace pymodel
