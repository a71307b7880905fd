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
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline __attribute__((always_inline))
// The C library's headers spell attributes `__noinline__`, so that word cannot be a macro here.
