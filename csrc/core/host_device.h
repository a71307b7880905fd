// Marks functions that CPU code and CUDA kernels share.
#pragma once

#ifdef __CUDACC__
#define PYMODEL_HOST_DEVICE __host__ __device__
#else
#define PYMODEL_HOST_DEVICE
#endif
