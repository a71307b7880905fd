// float64 beside float32 vectors: for sums of many elements, whose rounding must not show.
#pragma once

#include "cpu/simd.h"

namespace pymodel::cpu::PYMODEL_ISA {

typedef float HalfVec __attribute__((vector_size(2 * kLanes)));
typedef double DoubleVec __attribute__((vector_size(4 * kLanes)));

// The lanes of a vector, first half and second half.
struct Widened {
  DoubleVec low, high;
};

PYMODEL_INLINE Widened widened(Vec v) {
#ifdef PYMODEL_AVX512
  // The compiler makes seven instructions of what is one for each half.
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
          _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
#else
  HalfVec halves[2];
  memcpy(halves, &v, sizeof v);
  return {__builtin_convertvector(halves[0], DoubleVec),
          __builtin_convertvector(halves[1], DoubleVec)};
#endif
}

}  // namespace pymodel::cpu::PYMODEL_ISA
