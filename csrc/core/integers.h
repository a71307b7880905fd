// Reading integer tensors whose width is known only at run time.
#pragma once

#include "core/tensor_view.h"

namespace pymodel {

// Element `index` of a vector of int64, int32 or uint8 with any stride.
static inline PYMODEL_HOST_DEVICE int64_t integer_at(const TensorView& view, int64_t index) {
  const int64_t offset = index * view.strides[0];
  switch (view.dtype) {
    case DType::int64:
      return data_as<int64_t>(view)[offset];
    case DType::int32:
      return data_as<int32_t>(view)[offset];
    default:
      return data_as<uint8_t>(view)[offset];
  }
}

}  // namespace pymodel
