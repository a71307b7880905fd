// What every CPU kernel file starts from: the instruction set it is being compiled for.
//
// A kernel file is compiled once per instruction set and puts everything it defines into
// pymodel::cpu::PYMODEL_ISA. It includes no header of the standard library that holds templates
// or inline functions: the linker keeps one copy of those for the whole module, and the copy might
// use instructions that the running machine lacks. The build checks this (CheckIsolation.cmake).
#pragma once

#ifndef PYMODEL_ISA
#error "kernel files are compiled through pymodel_add_cpu_kernels(), which defines PYMODEL_ISA"
#endif

#if defined(PYMODEL_ISA_avx512) || defined(PYMODEL_ISA_avx512_bf16)
#define PYMODEL_AVX512 1
#endif
#if defined(PYMODEL_AVX512) || defined(PYMODEL_ISA_avx2)
#define PYMODEL_AVX2 1
#endif

#define PYMODEL_INLINE static inline __attribute__((always_inline))
