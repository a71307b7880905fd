// CUDA layer normalisation, backward.
//
// Bytes: dy and the input are read once, dx is written once; the floor is their sum over the memory
// bandwidth. Each of a fixed number of workers (a warp for narrow rows, else a block) takes every
// n-th row: it computes dx from two sums along the row and keeps its share of dweight and dbias in
// registers until the end. A second kernel adds the workers' shares in their order, so the bits
// depend on the shape alone. Rows beyond 8192 columns (4096 where packs do not fit) go over memory
// twice.
#include "ops/layer_norm/layer_norm.h"
#include "ops/layer_norm/layer_norm_row.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// Four arrays of 16 floats take about 100 registers, and single elements need as many addresses
// again.
template <int V>
constexpr int kMaxThreads = V == 1 ? 256 : 512;
constexpr int kWideThreads = 512;
constexpr int kColumnThreads = 256;
constexpr int kFinishColumns = 32, kFinishSlices = 8;  // of a block that adds shares

template <typename T>
struct BackwardRows {
  Rows<const T> dy;     // (rows, columns)
  Rows<const T> dsum;   // (rows, columns) or null
  Rows<const T> input;  // (rows, columns)
  const T* weight;      // (columns) or null
  const float* mean;    // (rows), null for RMS normalisation
  const float* rstd;    // (rows)
  Rows<T> dx;           // (rows, columns)
  float* partials;      // (workers, 2, columns): shares of dweight and of dbias
  int64_t rows;
  int columns;
};

// What every element of a row needs of the row.
struct RowSums {
  float mean, rstd;  // of the forward pass
  float g, gn;       // means of g and g * n; mean(g) is 0 for RMS normalisation
};

__device__ __forceinline__ float input_gradient(const RowSums& row, float g, float normal) {
  return (g - row.g - normal * row.gn) * row.rstd;
}

template <typename T>
__device__ __forceinline__ float weight_of(const BackwardRows<T>& p, int column) {
  return p.weight == nullptr ? 1.0f : to_float(p.weight[column]);
}

// Every thread of the row's worker brings its part of the sums of g and of g * n.
template <typename T>
__device__ __forceinline__ void finish_sums(const BackwardRows<T>& p, float g, float gn,
                                            float* scratch, RowSums& row) {
  const float count = static_cast<float>(p.columns);
  row.g = p.mean == nullptr ? 0.0f : block_sum(g, scratch) / count;
  row.gn = block_sum(gn, scratch) / count;
}

template <typename T>
__device__ __forceinline__ RowSums statistics_of(const BackwardRows<T>& p, int64_t row) {
  return {p.mean == nullptr ? 0.0f : p.mean[row], p.rstd[row], 0.0f, 0.0f};
}

// ---------------------------------------------------------------------------------------------
// Kernels

template <typename T, int V>
__global__ void __launch_bounds__(kMaxThreads<V>) layer_norm_backward_kernel(BackwardRows<T> p) {
  __shared__ float scratch[kWarp];
  const int64_t worker = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t workers = static_cast<int64_t>(gridDim.x) * blockDim.y;
  float dweight[kElements] = {}, dbias[kElements] = {};
  for (int64_t r = worker; r < p.rows; r += workers) {
    RowSums row = statistics_of(p, r);
    float dy[kElements], normal[kElements];
    load_row<V>(p.dy[r], p.columns, dy);
    load_row<V>(p.input[r], p.columns, normal);
    float sum_g = 0.0f, sum_gn = 0.0f;
    for_each_pack<V>(p.columns, [&](int first, int column) {
      float weight[V];
      load_parameter<V>(p.weight, column, 1.0f, weight);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const int slot = first + i;
        normal[slot] = (normal[slot] - row.mean) * row.rstd;
        dweight[slot] = fmaf(dy[slot], normal[slot], dweight[slot]);
        dbias[slot] += dy[slot];
        dy[slot] *= weight[i];  // from here on g
        sum_g += dy[slot];
        sum_gn = fmaf(dy[slot], normal[slot], sum_gn);
      }
    });
    finish_sums(p, sum_g, sum_gn, scratch, row);
    for_each_element<V>(
        p.columns, [&](int slot, int) { dy[slot] = input_gradient(row, dy[slot], normal[slot]); });
    if (p.dsum.data != nullptr) {
      load_row<V>(p.dsum[r], p.columns, normal);
      for_each_element<V>(p.columns, [&](int slot, int) { dy[slot] += normal[slot]; });
    }
    store_row<V>(p.dx[r], p.columns, dy);
  }
  if (p.partials == nullptr) return;
  float* share = p.partials + 2 * worker * p.columns;
  for_each_element<V>(p.columns, [&](int slot, int column) {
    share[column] = dweight[slot];
    share[p.columns + column] = dbias[slot];
  });
}

// dx of rows too wide for registers: one block a row.
template <typename T>
__global__ void __launch_bounds__(kWideThreads) layer_norm_backward_wide_kernel(BackwardRows<T> p) {
  __shared__ float scratch[kWarp];
  const int64_t r = blockIdx.x;
  const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  RowSums row = statistics_of(p, r);
  float sum_g = 0.0f, sum_gn = 0.0f;
  for (int i = first; i < p.columns; i += step) {
    const float g = to_float(p.dy[r][i]) * weight_of(p, i);
    sum_g += g;
    sum_gn = fmaf(g, (to_float(p.input[r][i]) - row.mean) * row.rstd, sum_gn);
  }
  finish_sums(p, sum_g, sum_gn, scratch, row);
  for (int i = first; i < p.columns; i += step) {
    const float g = to_float(p.dy[r][i]) * weight_of(p, i);
    float dx = input_gradient(row, g, (to_float(p.input[r][i]) - row.mean) * row.rstd);
    if (p.dsum.data != nullptr) dx += to_float(p.dsum[r][i]);
    p.dx[r][i] = from_float<T>(dx);
  }
}

// The shares of dweight and dbias for those rows: a thread a column, a worker along grid.y.
template <typename T>
__global__ void __launch_bounds__(kColumnThreads)
    layer_norm_partials_wide_kernel(BackwardRows<T> p) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= p.columns) return;
  float dweight = 0.0f, dbias = 0.0f;
  for (int64_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    const RowSums row = statistics_of(p, r);
    const float dy = to_float(p.dy[r][column]);
    dweight = fmaf(dy, (to_float(p.input[r][column]) - row.mean) * row.rstd, dweight);
    dbias += dy;
  }
  float* share = p.partials + 2 * static_cast<int64_t>(blockIdx.y) * p.columns + column;
  share[0] = dweight;
  share[p.columns] = dbias;
}

// Adds the shares (workers, 2, columns) of one parameter: eight slices of the workers side by side,
// each in its order, then the slices in theirs.
template <typename T>
__global__ void __launch_bounds__(kFinishColumns* kFinishSlices)
    layer_norm_finish_kernel(const float* shares, int64_t workers, int columns, bool accumulate,
                             T* gradient) {  // (columns)
  __shared__ float slices[kFinishSlices][kFinishColumns];
  const int column = static_cast<int>(blockIdx.x * kFinishColumns + threadIdx.x);
  float total = 0.0f;
  if (column < columns) {
    for (int64_t w = threadIdx.y; w < workers; w += kFinishSlices) {
      total += shares[2 * w * columns + column];
    }
  }
  slices[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
#pragma unroll
  for (int slice = 1; slice < kFinishSlices; ++slice) total += slices[slice][threadIdx.x];
  if (accumulate) total += to_float(gradient[column]);
  gradient[column] = from_float<T>(total);
}

// ---------------------------------------------------------------------------------------------
// Launchers

// Writes dx, and the shares of the parameters' gradients unless nobody wants them.
template <typename T, int V>
void launch_backward(const Launch& launch, const BackwardRows<T>& p, int64_t workers) {
  const dim3 block = block_of(threads_for_row(p.columns, V));
  launch(layer_norm_backward_kernel<T, V>, blocks_for(workers, block.y), block, 0, p);
}

template <typename T>
void launch_wide(const Launch& launch, const BackwardRows<T>& p, int64_t workers) {
  launch(layer_norm_backward_wide_kernel<T>, blocks_for(p.rows, 1), kWideThreads, 0, p);
  if (p.partials == nullptr) return;
  const dim3 grid(blocks_for(p.columns, kColumnThreads), static_cast<unsigned>(workers));
  launch(layer_norm_partials_wide_kernel<T>, grid, kColumnThreads, 0, p);
}

template <typename T>
void backward(const LayerNormBackward& args, const Launch& launch) {
  BackwardRows<T> p;
  p.dy = rows_of<const T>(args.dy);
  p.dsum = rows_of<const T>(args.dsum);
  p.input = rows_of<const T>(args.input);
  p.weight = data_as<const T>(args.weight);
  p.mean = data_as<const float>(args.mean);
  p.rstd = data_as<const float>(args.rstd);
  p.dx = rows_of<T>(args.dx);
  const bool wanted = args.dweight.data != nullptr || args.dbias.data != nullptr;
  p.partials = wanted ? static_cast<float*>(args.workspace) : nullptr;
  p.rows = args.dy.shape[0];
  p.columns = static_cast<int>(args.dy.shape[1]);
  const int64_t workers = layer_norm_workers(p.rows, p.columns);
  constexpr int kPack = kVectorLength<T>;
  const bool packs =
      packs_fit(p.columns, {&args.dy, &args.dsum, &args.input, &args.weight, &args.dx});
  if (p.columns > kElements * (packs ? kMaxThreads<kPack> : kMaxThreads<1>)) {
    launch_wide<T>(launch, p, workers);
  } else if (packs) {
    launch_backward<T, kPack>(launch, p, workers);
  } else {
    launch_backward<T, 1>(launch, p, workers);
  }
  const unsigned blocks = blocks_for(p.columns, kFinishColumns);
  const dim3 block(kFinishColumns, kFinishSlices);
  for (int which = 0; which < 2; ++which) {
    const TensorView& gradient = which == 0 ? args.dweight : args.dbias;
    if (gradient.data == nullptr) continue;
    launch(layer_norm_finish_kernel<T>, blocks, block, 0, p.partials + which * p.columns, workers,
           p.columns, args.accumulate, data_as<T>(gradient));
  }
}

}  // namespace

void layer_norm_backward(const LayerNormBackward& args, const Execution& on) {
  const Launch launch("layer_norm backward", on, {&args.dy, &args.input, &args.weight});
  dispatch_floating(args.dy.dtype, [&](auto type) { backward<decltype(type)>(args, launch); });
}

}  // namespace pymodel::PYMODEL_BACKEND
