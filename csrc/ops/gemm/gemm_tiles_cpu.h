// Products of bfloat16 and float32 on the matrix unit, where there is one.
#pragma once

#include "cpu/isa.h"
#include "ops/gemm/gemm.h"

namespace pymodel::cpu::PYMODEL_ISA {

#ifdef PYMODEL_ISA_avx512_bf16
// Computes a product of two matrices of at least one element each, or says no: without a matrix
// unit, for float16, and for float32 where there is too little to do.
bool gemm_in_tiles(const Gemm& g);
#else
PYMODEL_INLINE bool gemm_in_tiles(const Gemm&) { return false; }
#endif

}  // namespace pymodel::cpu::PYMODEL_ISA
