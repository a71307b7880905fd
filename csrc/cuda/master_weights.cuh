// Float32 values behind parameters, which are themselves float32 or a rounded copy of a master: the
// device's counterpart of cpu/master_weights.h.
#pragma once

#include <type_traits>

#include "cuda/tensor_list.cuh"

namespace pymodel::PYMODEL_BACKEND {

// The values behind parameters i to i + N - 1. A parameter that is not its master rounded was
// written by somebody else since the last step (a loaded state, a copied weight): it counts, not
// the master.
template <int N, typename T>
__device__ __forceinline__ void load_weights(const T* parameter, const float* master, int64_t i,
                                             float (&values)[N]) {
  load_group(parameter + i, values);
  if constexpr (!std::is_same_v<T, float>) {
    float kept[N];
    load_group(master + i, kept);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (to_float(from_float<T>(kept[j])) == values[j]) values[j] = kept[j];
    }
  }
}

template <int N, typename T>
__device__ __forceinline__ void store_weights(T* parameter, float* master, int64_t i,
                                              const float (&values)[N]) {
  if constexpr (!std::is_same_v<T, float>) store_group(master + i, values);
  store_group(parameter + i, values);
}

}  // namespace pymodel::PYMODEL_BACKEND
