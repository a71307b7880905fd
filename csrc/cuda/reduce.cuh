// Sums and maxima over the threads of a warp and of a block, in an order that never changes.
#pragma once

#include <cuda_runtime.h>

namespace pymodel::PYMODEL_BACKEND {

constexpr unsigned kFullMask = 0xffffffffu;
constexpr int kWarp = 32;

struct Sum {
  template <typename Value>
  __device__ __forceinline__ static Value join(Value a, Value b) {
    return a + b;
  }
  __device__ __forceinline__ static float identity() { return 0.0f; }
};

struct Maximum {  // NaN loses, as with fmaxf
  __device__ __forceinline__ static float join(float a, float b) { return fmaxf(a, b); }
  __device__ __forceinline__ static float identity() { return -INFINITY; }
};

// The result reaches all 32 lanes, which must all be here. The butterfly pairs lanes the same way
// in each of them, and joining commutes: every lane has the same bits.
template <typename Operation, typename Value>
__device__ __forceinline__ Value warp_reduce(Value value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value = Operation::join(value, __shfl_xor_sync(kFullMask, value, step));
  }
  return value;
}

// Over all threads of a one-dimensional block of whole warps; each of them gets the result.
// `scratch` is shared memory for 32 values that nothing else uses between two barriers of the
// block.
template <typename Operation, typename Value>
__device__ __forceinline__ Value block_reduce(Value value, Value* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warps = blockDim.x / kWarp;
  value = warp_reduce<Operation>(value);
  if (warps == 1) return value;
  __syncthreads();  // an earlier result may still be being read
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  // Every warp joins the partial results by itself, which saves a third barrier.
  return warp_reduce<Operation>(lane < warps ? scratch[lane] : Value{Operation::identity()});
}

template <typename Value>
__device__ __forceinline__ Value warp_sum(Value value) {
  return warp_reduce<Sum>(value);
}
template <typename Value>
__device__ __forceinline__ Value block_sum(Value value, Value* scratch) {
  return block_reduce<Sum>(value, scratch);
}
__device__ __forceinline__ float warp_max(float value) { return warp_reduce<Maximum>(value); }
__device__ __forceinline__ float block_max(float value, float* scratch) {
  return block_reduce<Maximum>(value, scratch);
}

}  // namespace pymodel::PYMODEL_BACKEND
