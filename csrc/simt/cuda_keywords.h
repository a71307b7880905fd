// CUDA's keywords for a C++ compiler: every function is a host function, and a block's static
// shared memory is a static variable, since blocks run one at a time (grid.h).
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline __attribute__((always_inline))

// GCC's `noinit` puts static shared memory into sections of its own, by which the emulator finds it
// (static_shared.h).
#define PYMODEL_SIMT_SHARED_SECTION ".noinit"
#if __has_attribute(noinit)
#define __shared__ static __attribute__((noinit))
#else
#define __shared__ static
#endif

// The C library's headers spell attributes `__noinline__`, so that word cannot be a macro here.
