// CUDA layer normalisation, forward.
//
// Bytes: x (and residual) are read once, y (and the sum) written once; the row stays in registers
// between the passes over it. Per element a handful of float32 operations: memory bandwidth is the
// floor. A row of up to 16 * 32 columns belongs to one warp, which needs no barrier; a longer one
// to a block of up to 1024 threads. Rows beyond 16384 columns are read again from the caches
// instead.
#include "ops/layer_norm/layer_norm.h"
#include "ops/layer_norm/layer_norm_row.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kMaxThreads = 512;  // leaves 128 registers a thread

template <typename T>
struct ForwardRows {
  Rows<const T> x;         // (rows, columns)
  Rows<const T> residual;  // (rows, columns) or null
  Rows<T> sum;             // (rows, columns) or null
  const T* weight;         // (columns) or null
  const T* bias;           // (columns) or null
  Rows<T> y;               // (rows, columns)
  float* mean;             // (rows), null for RMS normalisation
  float* rstd;             // (rows)
  int64_t rows;
  int columns;
  float eps;
};

// V neighbours of a normalised row under weight and bias.
template <int V, typename T>
__device__ __forceinline__ void scale(const ForwardRows<T>& p, int column, float* normal) {
  float weight[V], bias[V];
  load_parameter<V>(p.weight, column, 1.0f, weight);
  load_parameter<V>(p.bias, column, 0.0f, bias);
#pragma unroll
  for (int i = 0; i < V; ++i) normal[i] = fmaf(normal[i], weight[i], bias[i]);
}

template <typename T>
__device__ __forceinline__ void store_statistics(const ForwardRows<T>& p, int64_t row, float mean,
                                                 float rstd) {
  if (threadIdx.x != 0) return;
  if (p.mean != nullptr) p.mean[row] = mean;
  p.rstd[row] = rstd;
}

// ---------------------------------------------------------------------------------------------
// Kernels

template <typename T, int V>
__global__ void __launch_bounds__(kMaxThreads) layer_norm_forward_kernel(ForwardRows<T> p) {
  __shared__ float scratch[kWarp];
  // Rows share a block only where each has a warp of its own: no barrier waits for who leaves here.
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= p.rows) return;

  float values[kElements];
  load_row<V>(p.x[row], p.columns, values);
  if (p.residual.data != nullptr) {
    float residual[kElements];
    load_row<V>(p.residual[row], p.columns, residual);
    // As rounded: what is stored here is what backward will read.
    for_each_element<V>(p.columns, [&](int slot, int) {
      values[slot] = to_float(from_float<T>(values[slot] + residual[slot]));
    });
    store_row<V>(p.sum[row], p.columns, values);
  }

  const float count = static_cast<float>(p.columns);
  float mean = 0.0f;
  if (p.mean != nullptr) {
    float total = 0.0f;
    for_each_element<V>(p.columns, [&](int slot, int) { total += values[slot]; });
    mean = block_sum(total, scratch) / count;
  }
  float squares = 0.0f;
  for_each_element<V>(p.columns, [&](int slot, int) {
    const float d = values[slot] - mean;
    squares = fmaf(d, d, squares);
  });
  const float rstd = 1.0f / sqrtf(block_sum(squares, scratch) / count + p.eps);
  store_statistics(p, row, mean, rstd);
  for_each_pack<V>(p.columns, [&](int slot, int column) {
#pragma unroll
    for (int i = 0; i < V; ++i) values[slot + i] = (values[slot + i] - mean) * rstd;
    scale<V>(p, column, values + slot);
  });
  store_row<V>(p.y[row], p.columns, values);
}

// Rows too wide for registers: one block a row, which goes over it three times.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads) layer_norm_forward_wide_kernel(ForwardRows<T> p) {
  __shared__ float scratch[kWarp];
  const int64_t row = blockIdx.x;
  const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  const T* input = p.x[row];
  const float count = static_cast<float>(p.columns);
  float total = 0.0f;
  for (int i = first; i < p.columns; i += step) {
    if (p.residual.data == nullptr) {
      total += to_float(input[i]);
      continue;
    }
    const T sum = from_float<T>(to_float(input[i]) + to_float(p.residual[row][i]));
    p.sum[row][i] = sum;
    total += to_float(sum);
  }
  // Each thread reads back only what it wrote itself.
  if (p.residual.data != nullptr) input = p.sum[row];
  const float mean = p.mean == nullptr ? 0.0f : block_sum(total, scratch) / count;
  float squares = 0.0f;
  for (int i = first; i < p.columns; i += step) {
    const float d = to_float(input[i]) - mean;
    squares = fmaf(d, d, squares);
  }
  const float rstd = 1.0f / sqrtf(block_sum(squares, scratch) / count + p.eps);
  store_statistics(p, row, mean, rstd);
  for (int i = first; i < p.columns; i += step) {
    float value = (to_float(input[i]) - mean) * rstd;
    scale<1>(p, i, &value);
    p.y[row][i] = from_float<T>(value);
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T, int V>
void launch_forward(const Launch& launch, const ForwardRows<T>& p) {
  const dim3 block = block_of(threads_for_row(p.columns, V));
  launch(layer_norm_forward_kernel<T, V>, blocks_for(p.rows, block.y), block, 0, p);
}

template <typename T>
void forward(const LayerNormForward& args, const Launch& launch) {
  ForwardRows<T> p;
  p.x = rows_of<const T>(args.x);
  p.residual = rows_of<const T>(args.residual);
  p.sum = rows_of<T>(args.sum);
  p.weight = data_as<const T>(args.weight);
  p.bias = data_as<const T>(args.bias);
  p.y = rows_of<T>(args.y);
  p.mean = data_as<float>(args.mean);
  p.rstd = data_as<float>(args.rstd);
  p.rows = args.x.shape[0];
  p.columns = static_cast<int>(args.x.shape[1]);
  p.eps = args.eps;
  constexpr int kPack = kVectorLength<T>;
  const bool packs =
      packs_fit(p.columns, {&args.x, &args.residual, &args.sum, &args.weight, &args.bias, &args.y});
  if (p.columns > kMaxThreads * kElements) {
    launch(layer_norm_forward_wide_kernel<T>, blocks_for(p.rows, 1), kMaxThreads, 0, p);
  } else if (packs) {
    launch_forward<T, kPack>(launch, p);
  } else {
    launch_forward<T, 1>(launch, p);
  }
}

}  // namespace

void layer_norm_forward(const LayerNormForward& args, const Execution& on) {
  const Launch launch("layer_norm", on, {&args.x, &args.weight});
  dispatch_floating(args.x.dtype, [&](auto type) { forward<decltype(type)>(args, launch); });
}

}  // namespace pymodel::PYMODEL_BACKEND
