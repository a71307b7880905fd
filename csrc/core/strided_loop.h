// Several views of one shape seen as one loop nest, in the memory order of the first: what every
// backend makes of its operands before it runs over their elements.
//
// Dimensions that lie evenly in every view are merged, so that most calls end as one long run.
// Kernels compiled once per instruction set include this header: nothing here has external linkage.
#pragma once

#include "core/tensor_view.h"

namespace pymodel {

template <int views>
struct StridedLoop {
  int ndim = 0;  // at least 1
  int64_t shape[kMaxDims + 1] = {};
  int64_t strides[views][kMaxDims + 1] = {};  // in bytes
  char* data[views] = {};

  __attribute__((always_inline)) int64_t rows() const {
    int64_t count = 1;
    for (int d = 0; d + 1 < ndim; ++d) count *= shape[d];
    return count;
  }
  __attribute__((always_inline)) int64_t inner() const { return shape[ndim - 1]; }
  __attribute__((always_inline)) int64_t inner_stride(int view) const {
    return strides[view][ndim - 1];
  }

  __attribute__((always_inline)) void swap_dims(int d, int e) {
    int64_t kept = shape[d];
    shape[d] = shape[e];
    shape[e] = kept;
    for (int v = 0; v < views; ++v) {
      kept = strides[v][d];
      strides[v][d] = strides[v][e];
      strides[v][e] = kept;
    }
  }
};

template <int views>
static inline void sort_dims(StridedLoop<views>* loop) {
  for (int d = 1; d < loop->ndim; ++d) {
    for (int e = d; e > 0 && loop->strides[0][e - 1] < loop->strides[0][e]; --e) {
      loop->swap_dims(e - 1, e);
    }
  }
}

template <int views>
static inline void merge_dims(StridedLoop<views>* loop) {
  int kept = 0;
  for (int d = 1; d < loop->ndim; ++d) {
    bool even = true;
    for (int v = 0; v < views; ++v) {
      even = even && loop->strides[v][kept] == loop->strides[v][d] * loop->shape[d];
    }
    if (!even) ++kept;
    loop->shape[kept] = even ? loop->shape[kept] * loop->shape[d] : loop->shape[d];
    for (int v = 0; v < views; ++v) loop->strides[v][kept] = loop->strides[v][d];
  }
  loop->ndim = kept + 1;
}

// The loop over `list`, whose first view is the one written. Null views never move.
template <int views>
static inline StridedLoop<views> make_loop(const TensorView* const (&list)[views]) {
  StridedLoop<views> loop;
  for (int v = 0; v < views; ++v) loop.data[v] = static_cast<char*>(list[v]->data);
  for (int d = 0; d < list[0]->ndim; ++d) {
    const int64_t extent = list[0]->shape[d];
    if (extent == 1) continue;
    for (int v = 0; v < views; ++v) {
      const auto item = static_cast<int64_t>(item_size(list[v]->dtype));
      loop.strides[v][loop.ndim] = list[v]->data == nullptr ? 0 : list[v]->strides[d] * item;
    }
    loop.shape[loop.ndim++] = extent;
  }
  if (loop.ndim == 0) {
    // One element, as a run that looks dense.
    loop.ndim = 1;
    loop.shape[0] = 1;
    for (int v = 0; v < views; ++v) {
      const auto item = static_cast<int64_t>(item_size(list[v]->dtype));
      loop.strides[v][0] = list[v]->data == nullptr ? 0 : item;
    }
  }
  sort_dims(&loop);
  merge_dims(&loop);
  return loop;
}

// Dimensions [begin, end) of a view.
static inline TensorView dims_of(const TensorView& view, int begin, int end) {
  TensorView result = view;
  result.ndim = end - begin;
  for (int d = begin; d < end; ++d) {
    result.shape[d - begin] = view.shape[d];
    result.strides[d - begin] = view.strides[d];
  }
  return result;
}

// Of a copy whose first view is dense along the innermost dimension and whose second is not: moves
// the dimension along which the second is dense next to the innermost. `item` is the size of an
// element; extents below 4 are not worth it. False when there is no such pair of dimensions.
static inline bool find_transpose(StridedLoop<2>* loop, int64_t item) {
  if (loop->ndim < 2 || loop->inner_stride(0) != item) return false;
  if (loop->inner_stride(1) == item || loop->inner() < 4) return false;
  for (int d = loop->ndim - 2; d >= 0; --d) {
    if (loop->strides[1][d] != item || loop->shape[d] < 4) continue;
    loop->swap_dims(d, loop->ndim - 2);
    return true;
  }
  return false;
}

}  // namespace pymodel
