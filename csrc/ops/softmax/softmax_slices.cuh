// How kernels see (outer, classes, inner), and how slices are given to threads.
//
// Where inner is 1 a slice is a dense row: a warp or a block holds it in registers, or reads it
// twice when it is too long for that. Elsewhere neighbouring threads take neighbouring slices, so
// that they touch neighbouring memory, and the classes of a slice are shared by a few threads of
// the same x.
#pragma once

#include "core/tensor_view.h"
#include "cuda/launch.h"
#include "cuda/row.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr int kMaxThreads = 1024;

template <typename T>
struct Slices {
  T* data;
  int64_t outer_stride, class_stride;  // elements; that of inner is 1

  __device__ __forceinline__ T* row(int64_t outer) const { return data + outer * outer_stride; }
};

template <typename T>
Slices<T> slices_of(const TensorView& view) {
  return {data_as<T>(view), view.strides[0], view.strides[1]};
}

// ---------------------------------------------------------------------------------------------
// Slices across memory: a block takes kTile neighbours of one outer index; thread (x, y) takes
// classes y, y + blockDim.y and so on of slice x.

constexpr int kTile = 32, kMaxSplits = 8;

struct SlicePosition {
  int64_t outer, inner;
  bool inside;  // false beyond the last slice, in threads that only meet the barriers
};

inline int64_t tiles_of(int64_t inner) { return (inner + kTile - 1) / kTile; }

__device__ __forceinline__ SlicePosition own_slice(int64_t inner) {
  const int64_t tiles = (inner + kTile - 1) / kTile;
  const int64_t outer = blockIdx.x / tiles;
  const int64_t position = (blockIdx.x - outer * tiles) * kTile + threadIdx.x;
  return {outer, position, position < inner};
}

inline dim3 block_for_slices(int64_t classes) {
  unsigned splits = 1;
  while (splits < kMaxSplits && splits < classes) splits *= 2;
  return dim3(kTile, splits);
}

}  // namespace pymodel::PYMODEL_BACKEND
