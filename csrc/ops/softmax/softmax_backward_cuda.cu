// CUDA softmax and log_softmax, backward from the output: dy and y are read once where a row fits
// into the registers of a block, else twice, and dx is written once.
#include "cuda/reduce.cuh"
#include "ops/softmax/softmax.h"
#include "ops/softmax/softmax_slices.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kShare = 16;  // elements of dy and as many of y in the registers of a thread

// What is summed over a slice.
__device__ __forceinline__ float gradient_term(float dy, float y, bool logarithm) {
  return logarithm ? dy : dy * y;
}

// Stands for y beyond the end of a row: with a dy of 0 it adds nothing to the sum, and it is never
// the maximum that `masked` is told by.
__device__ __forceinline__ float padding(bool logarithm) { return logarithm ? -INFINITY : 0.0f; }

// `total` is the sum over the slice and `peak` the maximum of y, which is -infinity only for a
// masked log_softmax (or NaN, which is kept).
__device__ __forceinline__ float gradient(float dy, float y, float total, float peak,
                                          bool logarithm) {
  if (!logarithm) return y * (dy - total);
  const bool masked = peak == -INFINITY && y == -INFINITY;
  return masked ? 0.0f : fmaf(-expf(y), total, dy);
}

// Writes a row of dx, cut where it has its multiples of 16 bytes.
template <typename T>
__device__ __forceinline__ void write_gradient(const T* dy, const T* y, T* dx, int64_t classes,
                                               float total, float peak, bool logarithm) {
  const int lead = lead_of(dx);
  const Row<const T> incoming_row{dy, classes, lead}, value_row{y, classes, lead};
  const Row<T> gradient_row{dx, classes, lead};
  const int64_t packs = pack_count(gradient_row);
  for (int64_t pack = threadIdx.x; pack < packs; pack += blockDim.x) {
    float incoming[kVectorLength<T>], values[kVectorLength<T>];
    load_pack(incoming_row, pack, 0.0f, incoming);
    load_pack(value_row, pack, padding(logarithm), values);
#pragma unroll
    for (int i = 0; i < kVectorLength<T>; ++i) {
      values[i] = gradient(incoming[i], values[i], total, peak, logarithm);
    }
    store_pack(gradient_row, pack, values);
  }
}

// ---------------------------------------------------------------------------------------------
// Kernels

// dy, y, dx (rows, classes), classes <= kShare * blockDim.x.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_row_backward_kernel(Slices<const T> dy, Slices<const T> y, Slices<T> dx, int64_t rows,
                                int64_t classes, bool logarithm) {
  __shared__ float scratch[kWarp];
  const int64_t row = own_row();
  if (row >= rows) return;  // rows share a block only where none of them has a barrier
  float incoming[kShare], values[kShare];
  load_share(Row<const T>{dy.row(row), classes}, 0.0f, incoming);
  load_share(Row<const T>{y.row(row), classes}, padding(logarithm), values);
  float total = 0.0f, peak = -INFINITY;
#pragma unroll
  for (int i = 0; i < kShare; ++i) {
    total += gradient_term(incoming[i], values[i], logarithm);
    peak = fmaxf(peak, values[i]);
  }
  total = block_sum(total, scratch);
  if (logarithm) peak = block_max(peak, scratch);
  // A row that cannot be written in the packs it was read in is read again, from the caches.
  if (lead_of(dx.row(row)) != 0) {
    return write_gradient(dy.row(row), y.row(row), dx.row(row), classes, total, peak, logarithm);
  }
#pragma unroll
  for (int i = 0; i < kShare; ++i) {
    values[i] = gradient(incoming[i], values[i], total, peak, logarithm);
  }
  store_share(Row<T>{dx.row(row), classes}, values);
}

// dy, y, dx (rows, classes), a block a row.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_long_row_backward_kernel(Slices<const T> dy, Slices<const T> y, Slices<T> dx,
                                     int64_t classes, bool logarithm) {
  __shared__ float scratch[kWarp];
  const Row<const T> incoming_row{dy.row(blockIdx.x), classes};
  const Row<const T> value_row{y.row(blockIdx.x), classes};
  const int64_t packs = pack_count(value_row);
  float total = 0.0f, peak = -INFINITY;
  for (int64_t pack = threadIdx.x; pack < packs; pack += blockDim.x) {
    float incoming[kVectorLength<T>], values[kVectorLength<T>];
    load_pack(incoming_row, pack, 0.0f, incoming);
    load_pack(value_row, pack, padding(logarithm), values);
#pragma unroll
    for (int i = 0; i < kVectorLength<T>; ++i) {
      total += gradient_term(incoming[i], values[i], logarithm);
      peak = fmaxf(peak, values[i]);
    }
  }
  total = block_sum(total, scratch);
  if (logarithm) peak = block_max(peak, scratch);
  write_gradient(incoming_row.data, value_row.data, dx.row(blockIdx.x), classes, total, peak,
                 logarithm);
}

// dy, y, dx (outer, classes, inner), blocks of block_for_slices().
template <typename T>
__global__ void softmax_slice_backward_kernel(Slices<const T> dy, Slices<const T> y, Slices<T> dx,
                                              int64_t classes, int64_t inner, bool logarithm) {
  __shared__ float totals[kMaxSplits][kTile], peaks[kMaxSplits][kTile];
  const SlicePosition at = own_slice(inner);
  const T* incoming = dy.row(at.outer) + at.inner;
  const T* value = y.row(at.outer) + at.inner;
  float total = 0.0f, peak = -INFINITY;
  for (int64_t c = threadIdx.y; at.inside && c < classes; c += blockDim.y) {
    const float v = to_float(value[c * y.class_stride]);
    total += gradient_term(to_float(incoming[c * dy.class_stride]), v, logarithm);
    peak = fmaxf(peak, v);
  }
  totals[threadIdx.y][threadIdx.x] = total;
  peaks[threadIdx.y][threadIdx.x] = peak;
  __syncthreads();

  total = 0.0f;
  for (unsigned i = 0; i < blockDim.y; ++i) {
    total += totals[i][threadIdx.x];
    peak = fmaxf(peak, peaks[i][threadIdx.x]);
  }
  T* to = dx.row(at.outer) + at.inner;
  for (int64_t c = threadIdx.y; at.inside && c < classes; c += blockDim.y) {
    to[c * dx.class_stride] =
        from_float<T>(gradient(to_float(incoming[c * dy.class_stride]),
                               to_float(value[c * y.class_stride]), total, peak, logarithm));
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T>
void backward(const SoftmaxBackward& args, const Launch& launch) {
  const int64_t outer = args.y.shape[0], classes = args.y.shape[1], inner = args.y.shape[2];
  const auto dy = slices_of<const T>(args.dy), y = slices_of<const T>(args.y);
  const auto dx = slices_of<T>(args.dx);
  if (inner != 1) {
    launch(softmax_slice_backward_kernel<T>, blocks_for(outer * tiles_of(inner), 1),
           block_for_slices(classes), 0, dy, y, dx, classes, inner, args.logarithm);
    return;
  }
  if (classes > kShare * kMaxThreads) {
    launch(softmax_long_row_backward_kernel<T>, blocks_for(outer, 1), dim3(kMaxThreads), 0, dy, y,
           dx, classes, args.logarithm);
    return;
  }
  const dim3 block = block_for_row(classes, kShare, kMaxThreads);
  launch(softmax_row_backward_kernel<T>, blocks_for(outer, block.y), block, 0, dy, y, dx, outer,
         classes, args.logarithm);
}

}  // namespace

void softmax_backward(const SoftmaxBackward& args, const Execution& on) {
  if (numel(args.y) == 0) return;
  const Launch launch("softmax backward", on, {&args.dy, &args.y});
  dispatch_floating(args.y.dtype, [&](auto type) { backward<decltype(type)>(args, launch); });
}

}  // namespace pymodel::PYMODEL_BACKEND
