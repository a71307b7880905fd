// CUDA AdamW: all tensors in as few launches as their table takes. Memory bandwidth is the bound:
// 28 bytes a float32 parameter, 30 a half-precision one with its master, each touched once and 16
// bytes at a time.
#include "cuda/master_weights.cuh"
#include "ops/adamw/adamw_factors.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kAdvanceThreads = 128;

// The arithmetic of the CPU kernel, operation by operation.
template <int N, typename T>
__device__ __forceinline__ void update_group(const AdamWTensor& tensor, const AdamWFactors& f,
                                             float grad_scale, int64_t i) {
  T* const parameter = static_cast<T*>(tensor.parameter);
  float weight[N], g[N], m[N], v[N];
  load_weights<N>(parameter, tensor.master, i, weight);
  load_group(static_cast<const T*>(tensor.grad) + i, g);
  load_group(tensor.exp_avg + i, m);
  load_group(tensor.exp_avg_sq + i, v);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    float gradient = g[j] * grad_scale;
    if (f.penalty != 0.0f) gradient = fmaf(weight[j], f.penalty, gradient);
    m[j] = fmaf(gradient - m[j], f.first_weight, m[j]);
    v[j] = fmaf(gradient * gradient, f.second_weight, v[j] * f.second_decay);
    const float denominator = fmaf(sqrtf(v[j]), f.inverse_correction2, f.eps);
    weight[j] = fmaf(m[j] / denominator, -f.step_size, weight[j] * f.decay);
  }
  store_group(tensor.exp_avg + i, m);
  store_group(tensor.exp_avg_sq + i, v);
  store_weights<N>(parameter, tensor.master, i, weight);
}

// ---------------------------------------------------------------------------------------------
// Kernels

// `factors` (table.count) take the place of those in the table, or are null.
__global__ void __launch_bounds__(kListThreads)
    adamw_kernel(__grid_constant__ const TensorTable<AdamWTensor> table,
                 const AdamWFactors* factors, DeviceFactor grad_scale) {
  const float scale = grad_scale();
  if (!isfinite(scale)) return;  // a gradient is not finite: the step is left out
  for_each_piece(table, [&](int t, int64_t begin, int64_t end) {
    const AdamWTensor& tensor = table.tensors[t];
    const AdamWFactors f = factors == nullptr ? tensor.factors : factors[t];
    const bool aligned =
        groups_fit(tensor.parameter, tensor.grad, tensor.exp_avg, tensor.exp_avg_sq, tensor.master);
    dispatch_on_device(tensor.dtype, [&](auto type) {
      using T = decltype(type);
      for_each_group<kVectorLength<T>>(begin, end, aligned, [&](int64_t i, auto width) {
        update_group<decltype(width)::value, T>(tensor, f, scale, i);
      });
    });
  });
}

// Counts a step of every tensor, a thread each, and works out its factors (table.count).
__global__ void __launch_bounds__(kAdvanceThreads)
    adamw_advance_kernel(__grid_constant__ const TensorTable<AdamWSchedule> table,
                         AdamWFactors* factors, DeviceFactor grad_scale) {
  const int t = static_cast<int>(threadIdx.x);
  if (t >= table.count || !isfinite(grad_scale())) return;
  const AdamWSchedule& schedule = table.tensors[t];
  const int64_t step = *schedule.step + 1;
  *schedule.step = step;
  AdamWOptions options = schedule.options;
  if (schedule.lr != nullptr) options.lr = static_cast<double>(*schedule.lr);
  factors[t] = adamw_factors(options, step);
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void adamw(const AdamW& args, const Execution& on) {
  const Launch launch("adamw", on, {});
  const DeviceFactor grad_scale{args.grad_scale, args.device_grad_scale};
  auto* factors = static_cast<AdamWFactors*>(args.workspace);
  if (args.schedules != nullptr) {
    for_each_table(args.list, args.schedules, [&](const auto& table, int64_t first, unsigned) {
      static_assert(table.kCapacity <= kAdvanceThreads, "a thread for each tensor");
      launch(adamw_advance_kernel, 1, kAdvanceThreads, 0, table, factors + first, grad_scale);
    });
  }
  for_each_table(args.list, args.tensors, [&](const auto& table, int64_t first, unsigned blocks) {
    const AdamWFactors* own = args.schedules == nullptr ? nullptr : factors + first;
    launch(adamw_kernel, blocks, kListThreads, 0, table, own, grad_scale);
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
