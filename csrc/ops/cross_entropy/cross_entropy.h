// Cross-entropy of integer targets under the softmax of logits, with label smoothing.
//
//   loss = log(s) + m - (1 - e) * x[target] - e * mean(x)
//
// for a row x of logits with m = max(x), s = sum of exp(x - m) and smoothing e: the expected
// -log softmax(x) under a target that gives e / classes to every class and 1 - e more to its own.
//
// Rows whose target is ignore_index have loss 0 and gradient 0; the mean is over the other rows,
// and 0 when there are none. A row that is all -infinity gives its target probability 0: its loss
// is infinite (never NaN) and its gradient 0.
//
// Source for the smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer
// Vision", arXiv:1512.00567, section 7.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct CrossEntropyForward {
  TensorView logits;      // (rows, classes), any floating dtype, dense along classes
  TensorView targets;     // (rows), int64, int32 or uint8
  TensorView losses;      // (rows) float32
  TensorView statistics;  // (rows, 2) float32: m and s of every row that counts
  TensorView scale;       // () float32: what a row's loss is multiplied by, 1 or 1 / counted rows
  TensorView total;       // () float32: scale * sum of the losses
  int64_t ignore_index = -100;
  float label_smoothing = 0.0f;
  bool mean = true;                // scale is 1 / counted rows; 0 without any
  int64_t* invalid_row = nullptr;  // out: the first row whose target is no class, else -1
  // Both or neither: the gradient as well, while a row's logits are at hand.
  TensorView dlosses;  // as in CrossEntropyBackward
  TensorView dlogits;
  void* workspace = nullptr;  // on the CPU, cross_entropy_workspace bytes, aligned to 64
};

//   dx = (exp(x - m) / s - e / classes - (1 - e) * [class is target]) * scale * dlosses
struct CrossEntropyBackward {
  TensorView logits;      // (rows, classes)
  TensorView targets;     // (rows)
  TensorView statistics;  // (rows, 2) float32
  TensorView scale;       // () float32
  TensorView dlosses;     // (rows) float32, of stride 0 when the loss was reduced
  TensorView dlogits;     // (rows, classes), may be the logits themselves
  int64_t ignore_index = -100;
  float label_smoothing = 0.0f;
};

// The gradient that forward is asked for.
static inline CrossEntropyBackward cross_entropy_gradient(const CrossEntropyForward& args) {
  return {args.logits,  args.targets, args.statistics,   args.scale,
          args.dlosses, args.dlogits, args.ignore_index, args.label_smoothing};
}

// Floats that a thread keeps of a row whose gradient it writes: the exponentials, and what those of
// each block of at least 64 vectors were lowered by.
static inline int64_t cross_entropy_row_floats(int64_t classes) {
  return (classes + 15) / 16 * 16 + (classes / 64 + 31) / 16 * 16;
}
static inline int64_t cross_entropy_workspace(const CrossEntropyForward& args, int64_t threads) {
  if (args.dlogits.data == nullptr) return 0;
  return 4 * threads * cross_entropy_row_floats(args.logits.shape[1]);
}

PYMODEL_DECLARE_KERNEL(cross_entropy_forward, CrossEntropyForward)
PYMODEL_DECLARE_KERNEL(cross_entropy_backward, CrossEntropyBackward)

}  // namespace pymodel
