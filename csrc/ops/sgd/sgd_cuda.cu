// CUDA stochastic gradient descent: all tensors in as few launches as their table takes, bound by
// memory bandwidth.
#include "cuda/master_weights.cuh"
#include "ops/sgd/sgd.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// The arithmetic of the CPU kernel, operation by operation.
template <int N, typename T>
__device__ __forceinline__ void update_group(const SgdTensor& tensor, float lr, float grad_scale,
                                             int64_t i) {
  const SgdFactors& f = tensor.factors;
  T* const parameter = static_cast<T*>(tensor.parameter);
  float weight[N], direction[N];
  load_weights<N>(parameter, tensor.master, i, weight);
  load_group(static_cast<const T*>(tensor.grad) + i, direction);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    direction[j] *= grad_scale;
    if (f.weight_decay != 0.0f) direction[j] = fmaf(weight[j], f.weight_decay, direction[j]);
  }
  if (tensor.momentum != nullptr) {
    float buffer[N];
    load_group(tensor.momentum + i, buffer);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      buffer[j] = fmaf(buffer[j], f.momentum, direction[j] * f.gradient_weight);
      direction[j] = f.nesterov ? fmaf(buffer[j], f.momentum, direction[j]) : buffer[j];
    }
    store_group(tensor.momentum + i, buffer);
  }
#pragma unroll
  for (int j = 0; j < N; ++j) weight[j] = fmaf(direction[j], -lr, weight[j]);
  store_weights<N>(parameter, tensor.master, i, weight);
}

// ---------------------------------------------------------------------------------------------
// Kernel

__global__ void __launch_bounds__(kListThreads)
    sgd_kernel(__grid_constant__ const TensorTable<SgdTensor> table, DeviceFactor grad_scale) {
  const float scale = grad_scale();
  if (!isfinite(scale)) return;  // a gradient is not finite: the step is left out
  for_each_piece(table, [&](int t, int64_t begin, int64_t end) {
    const SgdTensor& tensor = table.tensors[t];
    const float lr = tensor.lr == nullptr ? tensor.factors.lr : *tensor.lr;
    const bool aligned = groups_fit(tensor.parameter, tensor.grad, tensor.momentum, tensor.master);
    dispatch_on_device(tensor.dtype, [&](auto type) {
      using T = decltype(type);
      for_each_group<kVectorLength<T>>(begin, end, aligned, [&](int64_t i, auto width) {
        update_group<decltype(width)::value, T>(tensor, lr, scale, i);
      });
    });
  });
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launcher

void sgd(const Sgd& args, const Execution& on) {
  const Launch launch("sgd", on, {});
  const DeviceFactor grad_scale{args.grad_scale, args.device_grad_scale};
  for_each_table(args.list, args.tensors, [&](const auto& table, int64_t, unsigned blocks) {
    launch(sgd_kernel, blocks, kListThreads, 0, table, grad_scale);
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
