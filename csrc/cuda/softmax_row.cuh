// The maximum of a row and the sum of its exponentials, found in one pass over memory.
//
// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867.
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/row.cuh"

namespace pymodel::PYMODEL_BACKEND {

struct SoftmaxSum {
  float maximum = -INFINITY;  // m
  float sum = 0.0f;           // sum of exp(x - m); 0 exactly where every x is -infinity
};

// What is subtracted from x: m, or 0 where all is -infinity, so that exp(x - m) is 0 and not NaN.
__device__ __forceinline__ float softmax_shift(float maximum) {
  return maximum == -INFINITY ? 0.0f : maximum;
}

// A NaN does not become the maximum, but it stays in the sum.
template <int count>
__device__ __forceinline__ void add(SoftmaxSum& total, const float (&values)[count]) {
  float peak = values[0];
#pragma unroll
  for (int i = 1; i < count; ++i) peak = fmaxf(peak, values[i]);
  if (peak > total.maximum) {
    total.sum *= expf(total.maximum - peak);
    total.maximum = peak;
  }
  const float shift = softmax_shift(total.maximum);
#pragma unroll
  for (int i = 0; i < count; ++i) total.sum += expf(values[i] - shift);
}

// Of one row, by all threads along x of the block; each of them gets the result. `scratch` is as
// block_reduce() wants it. visit(values, column) sees each pack on the way; the elements of a pack
// that lie outside the row are -infinity.
template <typename T, typename Visit>
__device__ __forceinline__ SoftmaxSum softmax_sum(const Row<const T>& row, float* scratch,
                                                  const Visit& visit) {
  SoftmaxSum own;
  const int64_t packs = pack_count(row);
  for (int64_t pack = threadIdx.x; pack < packs; pack += blockDim.x) {
    float values[kVectorLength<T>];
    load_pack(row, pack, -INFINITY, values);
    add(own, values);
    visit(values, first_column(row, pack));
  }
  const float maximum = block_max(own.maximum, scratch);
  const float share = own.sum * expf(own.maximum - softmax_shift(maximum));
  return {maximum, block_sum(share, scratch)};
}

template <typename T>
__device__ __forceinline__ SoftmaxSum softmax_sum(const Row<const T>& row, float* scratch) {
  return softmax_sum(row, scratch, [](const float*, int64_t) {});
}

}  // namespace pymodel::PYMODEL_BACKEND
