// The Euclidean norm of all gradients of a model taken as one vector, and their scaling by it.
//
//   norm = sqrt(sum over all elements of g^2)
//
// Squares are summed in float64, where those of float32 neither overflow nor vanish: the norm is
// finite exactly when every gradient is. The order of the sum depends on shapes alone.
#pragma once

#include "core/dtype.h"
#include "core/kernel.h"
#include "core/tensor_list.h"

namespace pymodel {

struct GradTensor {
  void* data;  // (count) elements of dtype, contiguous
  int64_t count;
  DType dtype;
};

struct GradNorm {
  TensorList list;
  const GradTensor* tensors = nullptr;  // (list.count)
  double* partials = nullptr;           // scratch of grad_norm_[device_]workspace() bytes
  double* norm = nullptr;               // the result on the CPU
  float* device_norm = nullptr;         // the result on a device, where it stays
};

// One sum a chunk on the CPU. Devices cut finer, and anew after some tensors.
static inline int64_t grad_norm_workspace(const TensorList& list) { return 8 * list_chunks(list); }
static inline int64_t grad_norm_device_workspace(const TensorList& list) {
  return 8 * (4 * list_chunks(list) + list.count);
}

// g = g * scale, in place.
struct GradScale {
  TensorList list;
  const GradTensor* tensors = nullptr;  // (list.count)
  float scale = 1.0f;
  const float* device_scale = nullptr;  // () on the device: one more factor, or null
};

PYMODEL_DECLARE_KERNEL(grad_norm, GradNorm)
PYMODEL_DECLARE_KERNEL(grad_scale, GradScale)

}  // namespace pymodel
