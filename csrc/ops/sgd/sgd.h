// One step of stochastic gradient descent over all parameters of a model, in one pass over memory.
//
//   g = grad * grad_scale + weight_decay * w
//   b = momentum * b + gradient_weight * g    gradient_weight is 1 - dampening, 1 at the first step
//   d = g + momentum * b  (Nesterov),  b  (plain momentum)  or  g  (no momentum)
//   w = w - lr * d
//
// w and b are float32; float16 and bfloat16 parameters have float32 masters as in adamw.h.
//
// Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
// in deep learning", ICML 2013, in the form that keeps lr out of the buffer.
#pragma once

#include "core/dtype.h"
#include "core/kernel.h"
#include "core/tensor_list.h"

namespace pymodel {

struct SgdFactors {
  float lr;
  float momentum;
  float gradient_weight;
  float weight_decay;
  bool nesterov;
};

// All arrays are contiguous and hold `count` elements.
struct SgdTensor {
  void* parameter;   // dtype
  const void* grad;  // dtype
  float* momentum;   // b, or null for no momentum
  float* master;     // w, or null when dtype is float32
  int64_t count;
  DType dtype;
  SgdFactors factors;
  const float* lr = nullptr;  // () on the device: stands for factors.lr there; or null
};

// On devices a step whose gradients are scaled by something that is not finite is left out.
struct Sgd {
  TensorList list;
  const SgdTensor* tensors = nullptr;  // (list.count)
  float grad_scale = 1.0f;
  const float* device_grad_scale = nullptr;  // () on the device: one more factor, or null
};

PYMODEL_DECLARE_KERNEL(sgd, Sgd)

}  // namespace pymodel
