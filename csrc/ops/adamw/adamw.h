// One step of Adam or AdamW over all parameters of a model, in one pass over memory.
//
//   g = grad * grad_scale                     clipping by the global norm costs no pass of its own
//   w = w * (1 - lr * weight_decay)           AdamW: decay apart from the gradient
//   g = g + weight_decay * w                  Adam: an L2 penalty
//   m = m + (1 - beta1) * (g - m)
//   v = beta2 * v + (1 - beta2) * g^2
//   w = w - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// w, m and v are float32. A float16 or bfloat16 parameter has a float32 master that keeps w; the
// parameter is the master rounded to nearest.
//
// Sources: Kingma and Ba, "Adam", arXiv:1412.6980; Loshchilov and Hutter, "Decoupled weight decay
// regularization", arXiv:1711.05101.
#pragma once

#include "core/dtype.h"
#include "core/kernel.h"
#include "core/tensor_list.h"

namespace pymodel {

// The factors of one step, already rounded from double; shared by the tensors of a group.
struct AdamWFactors {
  float decay;                // 1 - lr * weight_decay, or 1 for Adam
  float penalty;              // weight_decay for Adam, or 0
  float first_weight;         // 1 - beta1
  float second_decay;         // beta2
  float second_weight;        // 1 - beta2
  float step_size;            // lr / (1 - beta1^t)
  float inverse_correction2;  // 1 / sqrt(1 - beta2^t)
  float eps;
};

// All arrays are contiguous and hold `count` elements.
struct AdamWTensor {
  void* parameter;    // dtype
  const void* grad;   // dtype
  float* exp_avg;     // m
  float* exp_avg_sq;  // v
  float* master;      // w, or null when dtype is float32
  int64_t count;
  DType dtype;
  AdamWFactors factors;
};

// What the factors of a step follow from.
struct AdamWOptions {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;  // AdamW, not Adam
};

// Lets a device count steps by itself and work out their factors, so that a captured step advances
// whenever it is replayed.
struct AdamWSchedule {
  AdamWOptions options;
  int64_t* step;    // () on the device: steps done so far
  const float* lr;  // () on the device: stands for options.lr; or null
};

// On devices a step whose gradients are scaled by something that is not finite is left out.
struct AdamW {
  TensorList list;
  const AdamWTensor* tensors = nullptr;      // (list.count)
  const AdamWSchedule* schedules = nullptr;  // (list.count) for devices, or null
  void* workspace = nullptr;                 // adamw_device_workspace(list) bytes for schedules
  float grad_scale = 1.0f;
  const float* device_grad_scale = nullptr;  // () on the device: one more factor, or null
};

static inline int64_t adamw_device_workspace(const TensorList& list) {
  return list.count * static_cast<int64_t>(sizeof(AdamWFactors));
}

PYMODEL_DECLARE_KERNEL(adamw, AdamW)

}  // namespace pymodel
