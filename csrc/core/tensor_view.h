// What a kernel sees of a tensor: a pointer, a type, extents and strides. It owns nothing.
#pragma once

#include "core/dtype.h"
#include "core/host_device.h"

namespace pymodel {

constexpr int kMaxDims = 8;

struct TensorView {
  void* data = nullptr;  // null stands for an optional argument that was not given
  DType dtype = DType::float32;
  int ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t strides[kMaxDims] = {};  // in elements; 0 along an expanded dimension
};

static inline PYMODEL_HOST_DEVICE int64_t numel(const TensorView& view) {
  int64_t count = 1;
  for (int i = 0; i < view.ndim; ++i) count *= view.shape[i];
  return count;
}

static inline bool is_contiguous(const TensorView& view) {
  if (numel(view) == 0) return true;  // NumPy gives empty arrays any strides
  int64_t expected = 1;
  for (int i = view.ndim - 1; i >= 0; --i) {
    if (view.shape[i] != 1 && view.strides[i] != expected) return false;
    expected *= view.shape[i];
  }
  return true;
}

template <typename T>
static inline PYMODEL_HOST_DEVICE T* data_as(const TensorView& view) {
  return static_cast<T*>(view.data);
}

}  // namespace pymodel
