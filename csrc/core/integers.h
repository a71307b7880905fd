// Reading integer tensors whose width is known only at run time.
#pragma once

#include "core/tensor_view.h"

namespace pymodel {

// The element `offset` elements behind the first, of int64, int32 or uint8.
static inline PYMODEL_HOST_DEVICE int64_t integer_behind(const TensorView& view, int64_t offset) {
  switch (view.dtype) {
    case DType::int64:
      return data_as<int64_t>(view)[offset];
    case DType::int32:
      return data_as<int32_t>(view)[offset];
    default:
      return data_as<uint8_t>(view)[offset];
  }
}

// An element of a vector with any stride.
static inline PYMODEL_HOST_DEVICE int64_t integer_at(const TensorView& view, int64_t index) {
  return integer_behind(view, index * view.strides[0]);
}

// An element of a matrix with any strides.
static inline PYMODEL_HOST_DEVICE int64_t integer_at(const TensorView& view, int64_t row,
                                                     int64_t column) {
  return integer_behind(view, row * view.strides[0] + column * view.strides[1]);
}

}  // namespace pymodel
