// Float32 values behind parameters, which are themselves float32 or a rounded copy of a master.
#pragma once

#include "cpu/simd.h"

namespace pymodel::cpu::PYMODEL_ISA {

// The values behind parameters i to i + n - 1. A parameter that is not its master rounded was
// written by somebody else since the last step (a loaded state, a copied weight): it counts, not
// the master. Looking costs nothing, because storing the parameter fetches its cache line anyway.
template <typename T>
PYMODEL_INLINE Vec load_weights(const T* parameter, const float* master, int64_t i, int64_t n) {
  const Vec kept = load_lanes(master + i, n);
  T rounded[kLanes];
  store(rounded, kept);
  const Vec seen = load_lanes(parameter + i, n);
  return load(rounded) == seen ? kept : seen;
}
PYMODEL_INLINE Vec load_weights(const float* parameter, const float*, int64_t i, int64_t n) {
  return load_lanes(parameter + i, n);
}

template <typename T>
PYMODEL_INLINE void store_weights(T* parameter, float* master, Vec value, int64_t i, int64_t n) {
  store_lanes(master + i, value, n);
  store_lanes(parameter + i, value, n);
}
PYMODEL_INLINE void store_weights(float* parameter, float*, Vec value, int64_t i, int64_t n) {
  store_lanes(parameter + i, value, n);
}

}  // namespace pymodel::cpu::PYMODEL_ISA
