// Slots of neighbouring elements between memory and registers, as float32, as int64, or as they
// are. `repeats` says that all elements of the slot are the one at `at`.
#pragma once

#include "cuda/numeric.cuh"

namespace pymodel::PYMODEL_BACKEND {

// ---------------------------------------------------------------------------------------------
// As they are. T is any type without constructors; elements from `count` on are zero.

template <int width, typename T>
__device__ __forceinline__ void load_slot(const char* at, bool repeats, int count,
                                          T (&values)[width]) {
  const T* from = reinterpret_cast<const T*>(at);
  constexpr int kVector = width < kVectorLength<T> ? width : kVectorLength<T>;
  if (width == 1 || repeats) {
    const T value = *from;
#pragma unroll
    for (int i = 0; i < width; ++i) values[i] = value;
  } else if (count == width) {
#pragma unroll
    for (int i = 0; i < width; i += kVector) {
      const Packed<T, kVector> vector = load_packed<kVector>(from + i);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[i + j] = vector.element[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) values[i] = i < count ? from[i] : T{};
  }
}

template <int width, typename T>
__device__ __forceinline__ void store_slot(char* at, int count, const T (&values)[width]) {
  T* to = reinterpret_cast<T*>(at);
  constexpr int kVector = width < kVectorLength<T> ? width : kVectorLength<T>;
  if (count == width) {
#pragma unroll
    for (int i = 0; i < width; i += kVector) {
      Packed<T, kVector> vector;
#pragma unroll
      for (int j = 0; j < kVector; ++j) vector.element[j] = values[i + j];
      store_packed(to + i, vector);
    }
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) {
      if (i < count) to[i] = values[i];
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Converted. The Wide type is float or int64_t.

template <typename T, int width, typename Wide>
__device__ __forceinline__ void load_as(const char* at, bool repeats, int count,
                                        Wide (&values)[width]) {
  T raw[width];
  load_slot(at, repeats, count, raw);
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if constexpr (sizeof(Wide) == sizeof(float)) {
      values[i] = to_float(raw[i]);
    } else {
      values[i] = static_cast<Wide>(raw[i]);
    }
  }
}

template <typename T, int width, typename Wide>
__device__ __forceinline__ void store_as(char* at, int count, const Wide (&values)[width]) {
  T raw[width];
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if constexpr (sizeof(Wide) == sizeof(float)) {
      raw[i] = from_float<T>(values[i]);
    } else {
      raw[i] = static_cast<T>(values[i]);  // what does not fit wraps around
    }
  }
  store_slot(at, count, raw);
}

// Of a floating type known at run time. All threads of a launch take the same branch.
template <int width>
__device__ __forceinline__ void load_any(DType dtype, const char* at, bool repeats, int count,
                                         float (&values)[width]) {
  switch (dtype) {
    case DType::float16:
      return load_as<__half>(at, repeats, count, values);
    case DType::bfloat16:
      return load_as<__nv_bfloat16>(at, repeats, count, values);
    default:
      return load_as<float>(at, repeats, count, values);
  }
}

template <int width>
__device__ __forceinline__ void store_any(DType dtype, char* at, int count,
                                          const float (&values)[width]) {
  switch (dtype) {
    case DType::float16:
      return store_as<__half>(at, count, values);
    case DType::bfloat16:
      return store_as<__nv_bfloat16>(at, count, values);
    default:
      return store_as<float>(at, count, values);
  }
}

// Of int32, int64, uint8 or bool.
template <int width>
__device__ __forceinline__ void load_any(DType dtype, const char* at, bool repeats, int count,
                                         int64_t (&values)[width]) {
  switch (dtype) {
    case DType::int32:
      return load_as<int32_t>(at, repeats, count, values);
    case DType::uint8:
      return load_as<uint8_t>(at, repeats, count, values);
    case DType::boolean:
      // Foreign memory may hold bytes other than 0 and 1.
      load_as<uint8_t>(at, repeats, count, values);
#pragma unroll
      for (int i = 0; i < width; ++i) values[i] = values[i] != 0;
      return;
    default:
      return load_as<int64_t>(at, repeats, count, values);
  }
}

// Values for bool must be 0 or 1.
template <int width>
__device__ __forceinline__ void store_any(DType dtype, char* at, int count,
                                          const int64_t (&values)[width]) {
  switch (dtype) {
    case DType::int32:
      return store_as<int32_t>(at, count, values);
    case DType::uint8:
    case DType::boolean:
      return store_as<uint8_t>(at, count, values);
    default:
      return store_as<int64_t>(at, count, values);
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
