// Dropout with an optional residual added in the same pass.
//
//   y[i] = (word(seed, offset, i) < keep_threshold(1 - p) ? x[i] / (1 - p) : 0) + residual[i]
//
// x, residual, y (count) are dense and have one floating dtype; i is the logical row-major index,
// so the mask does not depend on strides or tiling. The mask is not stored: dx is the same kernel
// applied to dy with the same seed and offset, and without a residual.
//
// Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
// JMLR 15, 2014, in the inverted form that leaves evaluation alone.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct Dropout {
  TensorView x;         // (count)
  TensorView residual;  // (count) or null
  TensorView y;         // (count), may be x
  double p = 0.5;       // probability of dropping, in [0, 1]
  uint64_t seed = 0;
  uint64_t offset = 0;
};

PYMODEL_DECLARE_KERNEL(dropout, Dropout)

}  // namespace pymodel
