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
  TensorView dweight;          // (entries, columns), contiguous unless it is added to
  int64_t padding_index = -1;  // an entry that gets no gradient, or -1
  bool accumulate = false;     // add to dweight instead of overwriting it
  void* workspace = nullptr;   // embedding_workspace() or embedding_device_workspace() bytes
};

// Two orders of the positions, between which the sort goes back and forth.
static inline int64_t embedding_workspace(int64_t count) { return 2 * 8 * count; }

// On a device the sort counts 256 digits in every tile of positions, and sums are made of ranges
// of sorted positions: two float32 rows for each range hold what goes beyond it.
constexpr int64_t kSortTile = 2048;
constexpr int64_t kSumRange = 64;
static inline int64_t sort_tiles(int64_t count) { return (count + kSortTile - 1) / kSortTile; }
static inline int64_t sum_ranges(int64_t count) { return (count + kSumRange - 1) / kSumRange; }
static inline int64_t sort_workspace(int64_t count) {
  return embedding_workspace(count) + 256 * 8 * sort_tiles(count);
}
static inline int64_t embedding_device_workspace(int64_t count, int64_t columns) {
  return sort_workspace(count) + 2 * 4 * sum_ranges(count) * columns;
}

PYMODEL_DECLARE_KERNEL(embedding_forward, EmbeddingForward)
PYMODEL_DECLARE_KERNEL(embedding_backward, EmbeddingBackward)

}  // namespace pymodel
