// Rows of a table picked by integer indices.
//
//   y[i] = weight[indices[i]]
//
// weight and the tensors shaped like its rows have one dtype and are dense along columns. Rows of
// any type are picked; only floating ones have a backward.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct EmbeddingForward {
  TensorView indices;          // (count), int64, int32 or uint8
  TensorView weight;           // (entries, columns)
  TensorView y;                // (count, columns)
  int64_t* invalid = nullptr;  // out: the first i whose index is no row of weight, else -1
};

//   dweight[e] (+)= sum of dy[i] over the i, in order, with indices[i] = e
//
// Sums run in float32 and are rounded once. Indices were checked forward.
struct EmbeddingBackward {
  TensorView indices;          // (count)
  TensorView dy;               // (count, columns)
  TensorView dweight;          // (entries, columns)
  int64_t padding_index = -1;  // an entry that gets no gradient, or -1
  bool accumulate = false;     // add to dweight instead of overwriting it
  void* workspace = nullptr;   // embedding_workspace(count) bytes
};

// Two orders of the positions, between which the sort goes back and forth.
static inline int64_t embedding_workspace(int64_t count) { return 2 * 8 * count; }

PYMODEL_DECLARE_KERNEL(embedding_forward, EmbeddingForward)
PYMODEL_DECLARE_KERNEL(embedding_backward, EmbeddingBackward)

}  // namespace pymodel
