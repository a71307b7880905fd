// CUDA gradient norm: one float64 sum a block, then one block sums those. The number of blocks
// follows from the sizes of the tensors, so the order of the sum is the same on every GPU.
#include "cuda/reduce.cuh"
#include "cuda/tensor_list.cuh"
#include "ops/grad_norm/grad_norm.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kFinishThreads = 1024;

// Calls body(pointer to elements, width) for groups of a piece, with the pointer's type.
template <typename Body>
__device__ __forceinline__ void for_each_typed_group(const GradTensor& tensor, int64_t begin,
                                                     int64_t end, const Body& body) {
  const bool aligned = groups_fit(tensor.data);
  dispatch_on_device(tensor.dtype, [&](auto type) {
    using T = decltype(type);
    for_each_group<kVectorLength<T>>(begin, end, aligned, [&](int64_t i, auto width) {
      body(static_cast<T*>(tensor.data) + i, width);
    });
  });
}

// ---------------------------------------------------------------------------------------------
// Kernels

// partials: one sum of squares for each block.
__global__ void __launch_bounds__(kListThreads)
    grad_norm_kernel(__grid_constant__ const TensorTable<GradTensor> table, double* partials) {
  __shared__ double scratch[kWarp];
  double total = 0.0;
  for_each_piece(table, [&](int t, int64_t begin, int64_t end) {
    for_each_typed_group(table.tensors[t], begin, end, [&](const auto* from, auto width) {
      float values[decltype(width)::value];
      load_group(from, values);
#pragma unroll
      for (const float value : values) {
        const double wide = value;
        total = fma(wide, wide, total);
      }
    });
  });
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// The root of the sum of all partials (count), rounded to float32; one block.
__global__ void __launch_bounds__(kFinishThreads)
    grad_norm_finish_kernel(const double* partials, int64_t count, float* norm) {
  __shared__ double scratch[kWarp];
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) total += partials[i];
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(total));
}

__global__ void __launch_bounds__(kListThreads)
    grad_scale_kernel(__grid_constant__ const TensorTable<GradTensor> table, DeviceFactor scale) {
  const float factor = scale();
  if (factor == 1.0f) return;
  for_each_piece(table, [&](int t, int64_t begin, int64_t end) {
    for_each_typed_group(table.tensors[t], begin, end, [&](auto* to, auto width) {
      float values[decltype(width)::value];
      load_group(to, values);
#pragma unroll
      for (float& value : values) value *= factor;
      store_group(to, values);
    });
  });
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void grad_norm(const GradNorm& args, const Execution& on) {
  const Launch launch("grad_norm", on, {});
  int64_t count = 0;
  for_each_table(args.list, args.tensors, [&](const auto& table, int64_t, unsigned blocks) {
    launch(grad_norm_kernel, blocks, kListThreads, 0, table, args.partials + count);
    count += blocks;
  });
  launch(grad_norm_finish_kernel, 1, kFinishThreads, 0, args.partials, count, args.device_norm);
}

void grad_scale(const GradScale& args, const Execution& on) {
  const Launch launch("grad_scale", on, {});
  const DeviceFactor scale{args.scale, args.device_scale};
  for_each_table(args.list, args.tensors, [&](const auto& table, int64_t, unsigned blocks) {
    launch(grad_scale_kernel, blocks, kListThreads, 0, table, scale);
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
