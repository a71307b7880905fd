// Element types in kernels: stored in two or four bytes, computed in float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "core/dtype.h"

namespace pymodel::PYMODEL_BACKEND {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounds to nearest, ties to even.
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Calls body with a value of the type that `dtype` names; the value itself means nothing.
template <typename Body>
void dispatch_floating(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float16:
      return body(__half{});
    case DType::bfloat16:
      return body(__nv_bfloat16{});
    default:
      return body(float{});
  }
}

// ---------------------------------------------------------------------------------------------
// Vectors of elements

// `count` neighbours that are moved by one instruction: at most 16 bytes.
template <typename T, int count>
struct alignas(sizeof(T) * count) Packed {
  static_assert(sizeof(T) * count <= 16, "the widest access to memory has 16 bytes");
  T element[count];
};

// Elements of T in a 16-byte access.
template <typename T>
constexpr int kVectorLength = 16 / static_cast<int>(sizeof(T));

template <int count, typename T>
__device__ __forceinline__ Packed<T, count> load_packed(const T* from) {
  return *reinterpret_cast<const Packed<T, count>*>(from);
}

template <int count, typename T>
__device__ __forceinline__ void store_packed(T* to, const Packed<T, count>& values) {
  *reinterpret_cast<Packed<T, count>*>(to) = values;
}

// Whether a pointer, or a stride in elements, keeps to multiples of 16 bytes. Null does.
inline bool aligned_16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}
inline bool aligned_16(int64_t stride, DType dtype) {
  return stride * static_cast<int64_t>(item_size(dtype)) % 16 == 0;
}

}  // namespace pymodel::PYMODEL_BACKEND
