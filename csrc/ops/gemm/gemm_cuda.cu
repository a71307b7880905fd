// The entry of gemm on a device: which kernels a product takes, and the second pass of a product
// whose depth was cut into parts. The kernels that multiply are in gemm_tensor_cuda.cu,
// gemm_float_cuda.cu and gemm_few_rows_cuda.cu.
#include <cstdlib>

#include "ops/gemm/gemm_product.cuh"

namespace pymodel::PYMODEL_BACKEND {

// ---------------------------------------------------------------------------------------------
// Kernel

// Adds the parts of K, always in their order, and runs the epilogue. It reads `parts` floats for
// each element of C: bound by memory, mostly by the second-level cache.
template <typename T>
__global__ void gemm_add_parts(const Product<T> p, int64_t parts) {
  constexpr int kRun = kVectorLength<T>;
  const int64_t runs = (p.n + kRun - 1) / kRun, size = p.count * p.m * p.n;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= p.count * p.m * runs) return;
  const int64_t column = index % runs * kRun, line = index / runs;  // of all items' rows
  const int count = p.n - column < kRun ? static_cast<int>(p.n - column) : kRun;
  const bool whole = count == kRun && p.n % 4 == 0;
  const float* const from = p.partials + line * p.n + column;
  float sums[kRun], part[kRun];
  load_run(sums, from, count, whole);
  for (int64_t i = 1; i < parts; ++i) {
    load_run(part, from + i * size, count, whole);
#pragma unroll
    for (int j = 0; j < kRun; ++j) sums[j] += part[j];
  }
  finish_run(p.epilogue, sums, p.stack.offset(p.stack.c, line / p.m), line % p.m, column, count);
}

// ---------------------------------------------------------------------------------------------
// Describing a product

// Bytes that must be multiples of a copy's width for it to be used: what it starts from, steps by
// and reads to.
template <typename T>
static Copy widest_copy(const T* data, int64_t lines, int64_t stride, int64_t length,
                        int64_t element_stride, const Stack& stack, const int64_t* steps) {
  if (length > 1 && element_stride != 1) return Copy::elements;
  int64_t bits = static_cast<int64_t>(reinterpret_cast<intptr_t>(data)) / sizeof(T) | length;
  if (lines > 1) bits |= stride;
  for (int d = 0; d < stack.ndim; ++d) bits |= steps[d];
  bits *= sizeof(T);
  return bits % 16 == 0 ? Copy::vectors : bits % 4 == 0 ? Copy::words : Copy::elements;
}

template <typename T>
static Operand<T> describe_operand(const TensorView& view, int extent_dim, const Stack& stack,
                                   const int64_t* steps) {
  const int depth_dim = 2 * view.ndim - 3 - extent_dim;
  const T* const data = data_as<const T>(view);
  const int64_t extent = view.shape[extent_dim], k = view.shape[depth_dim];
  const int64_t stride = view.strides[extent_dim], depth_stride = view.strides[depth_dim];
  const Copy by_depth = widest_copy(data, extent, stride, k, depth_stride, stack, steps);
  const Copy by_extent = widest_copy(data, k, depth_stride, extent, stride, stack, steps);
  bool depth_dense = by_depth <= by_extent;
  if (by_depth == Copy::elements && by_extent == Copy::elements) {
    depth_dense = std::abs(depth_stride) <= std::abs(stride);  // neighbours share cache lines
  }
  return {data, extent, stride, depth_stride, depth_dense, depth_dense ? by_depth : by_extent};
}

static Stack describe_stack(const Gemm& g) {
  Stack stack;
  for (int d = 0; d < g.c.ndim - 2; ++d) {
    const int64_t extent = g.c.shape[d];
    if (extent == 1) continue;
    const int64_t a = g.a.strides[d], b = g.b.strides[d], c = g.c.strides[d];
    const int last = stack.ndim - 1;
    const bool merges = last >= 0 && stack.a[last] == a * extent && stack.b[last] == b * extent &&
                        stack.c[last] == c * extent;
    const int to = merges ? last : stack.ndim++;
    stack.shape[to] = merges ? stack.shape[last] * extent : extent;
    stack.a[to] = a;
    stack.b[to] = b;
    stack.c[to] = c;
  }
  return stack;
}

// Whether rows of a (M, N) operand start on multiples of 16 bytes. Null does.
static bool rows_aligned(const TensorView& view) {
  return aligned_16(view.data) &&
         (view.ndim < 2 || aligned_16(view.strides[view.ndim - 2], view.dtype));
}

template <typename T>
static Epilogue<T> describe_epilogue(const Gemm& g, const Stack& stack) {
  Epilogue<T> e;
  e.bias = data_as<const T>(g.bias);
  e.residual = data_as<const T>(g.residual);
  e.preactivation = data_as<T>(g.preactivation);
  e.c = g.c.data;
  e.residual_stride = g.residual.strides[0];
  e.preactivation_stride = g.preactivation.strides[0];
  e.c_stride = g.c.strides[g.c.ndim - 2];
  e.alpha = g.alpha;
  e.beta = g.beta;
  e.activation = g.activation;
  e.activation_gradient = g.activation_gradient;
  e.c_is_float32 = g.c.dtype == DType::float32;
  e.aligned = rows_aligned(g.c) && rows_aligned(g.bias) && rows_aligned(g.residual) &&
              rows_aligned(g.preactivation);
  for (int d = 0; d < stack.ndim; ++d) {
    e.aligned = e.aligned && aligned_16(stack.c[d], g.c.dtype);
  }
  return e;
}

template <typename T>
static Product<T> describe(const Gemm& g) {
  const int rows = g.c.ndim - 2, columns = g.c.ndim - 1;
  Product<T> p;
  p.m = g.c.shape[rows];
  p.n = g.c.shape[columns];
  p.k = g.a.shape[columns];
  p.count = gemm_count(g);
  p.first_item = 0;
  p.stack = describe_stack(g);
  p.a = describe_operand<T>(g.a, rows, p.stack, p.stack.a);
  p.b = describe_operand<T>(g.b, columns, p.stack, p.stack.b);
  p.vectors = p.a.copy == Copy::vectors && p.b.copy == Copy::vectors;
  p.epilogue = describe_epilogue<T>(g, p.stack);
  return p;
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T>
static void multiply(const Gemm& g, const Execution& on) {
  constexpr int kThreads = 256;
  const Launch launch("gemm", on, {&g.a, &g.b, &g.c});
  Product<T> p = describe<T>(g);
  const bool few_rows = few_rows_fit(p);
  const GemmPlan plan =
      few_rows ? few_rows_plan(p) : gemm_tile_plan(p.vectors, p.count, p.m, p.n, p.k);
  p.depth = plan.depth;
  p.partials = plan.splits > 1 ? static_cast<float*>(g.workspace) : nullptr;
  if (few_rows) {
    multiply_few_rows(launch, p);
  } else if (sizeof(T) == 2 || g.tf32) {
    multiply_on_tensor_cores(launch, p, plan.large);
  } else if constexpr (sizeof(T) == 4) {
    multiply_on_scalar_units(launch, p, plan.large);
  }
  if (plan.splits == 1) return;
  const int64_t runs = p.count * p.m * gemm_ceil_divide(p.n, kVectorLength<T>);
  launch(gemm_add_parts<T>, dim3(blocks_for(runs, kThreads)), dim3(kThreads), 0, p, plan.splits);
}

void gemm(const Gemm& g, const Execution& on) {
  if (numel(g.c) == 0) return;
  dispatch_floating(g.a.dtype, [&](auto type) { multiply<decltype(type)>(g, on); });
}

}  // namespace pymodel::PYMODEL_BACKEND
