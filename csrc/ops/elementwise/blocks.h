// Elements of any type and stride as dense blocks of float32 or int64, and back.
//
// Elementwise kernels and reductions compute on such blocks, so each of them has one loop instead
// of one per type and layout. Blocks stay in the first-level cache; what already is dense and of
// the wide type is used in place.
#pragma once

#include "cpu/simd.h"

namespace pymodel::cpu::PYMODEL_ISA {

constexpr int64_t kBlock = 512;

// ---------------------------------------------------------------------------------------------
// Floating types <-> float32

template <typename T>
static const float* widen_floats(const char* data, int64_t stride, int64_t count, float* buffer) {
  if (stride == sizeof(T)) {
    const T* source = reinterpret_cast<const T*>(data);
    for_each_vector(count, [&](int64_t i, int64_t n) {
      // Operands take turns block by block: without this the next one of each would be waited for.
      __builtin_prefetch(source + i + kBlock);
      store_lanes(buffer + i, load_lanes(source + i, n), n);
    });
  } else {
    for (int64_t i = 0; i < count; ++i) {
      buffer[i] = to_float(*reinterpret_cast<const T*>(data + i * stride));
    }
  }
  return buffer;
}

template <typename T>
static void narrow_floats(const float* values, int64_t count, char* data, int64_t stride) {
  if (stride == sizeof(T)) {
    T* target = reinterpret_cast<T*>(data);
    for_each_vector(count, [&](int64_t i, int64_t n) {
      store_lanes(target + i, load_lanes(values + i, n), n);
    });
  } else {
    for (int64_t i = 0; i < count; ++i)
      from_float(values[i], reinterpret_cast<T*>(data + i * stride));
  }
}

// `count` elements from `data` on, `stride` bytes apart: in `buffer`, or where they are.
static inline const float* load_floats(DType dtype, const char* data, int64_t stride, int64_t count,
                                       float* buffer) {
  switch (dtype) {
    case DType::float16:
      return widen_floats<float16>(data, stride, count, buffer);
    case DType::bfloat16:
      return widen_floats<bfloat16>(data, stride, count, buffer);
    default:
      if (stride == sizeof(float)) return reinterpret_cast<const float*>(data);
      return widen_floats<float>(data, stride, count, buffer);
  }
}

// Where results for `data` are to be computed: in place where that is dense float32.
static inline float* float_target(DType dtype, char* data, int64_t stride, float* buffer) {
  const bool dense = dtype == DType::float32 && stride == sizeof(float);
  return dense ? reinterpret_cast<float*>(data) : buffer;
}

// Puts the results computed at float_target() into place.
static inline void store_floats(DType dtype, const float* values, int64_t count, char* data,
                                int64_t stride) {
  switch (dtype) {
    case DType::float16:
      return narrow_floats<float16>(values, count, data, stride);
    case DType::bfloat16:
      return narrow_floats<bfloat16>(values, count, data, stride);
    default:
      if (reinterpret_cast<const char*>(values) == data) return;
      return narrow_floats<float>(values, count, data, stride);
  }
}

// ---------------------------------------------------------------------------------------------
// int32, int64, uint8 and bool <-> int64

template <typename T>
static const int64_t* widen_integers(const char* data, int64_t stride, int64_t count,
                                     int64_t* buffer) {
  for (int64_t i = 0; i < count; ++i) buffer[i] = *reinterpret_cast<const T*>(data + i * stride);
  return buffer;
}

template <typename T>
static void narrow_integers(const int64_t* values, int64_t count, char* data, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    *reinterpret_cast<T*>(data + i * stride) = static_cast<T>(values[i]);
  }
}

static inline const int64_t* load_integers(DType dtype, const char* data, int64_t stride,
                                           int64_t count, int64_t* buffer) {
  switch (dtype) {
    case DType::int32:
      return widen_integers<int32_t>(data, stride, count, buffer);
    case DType::uint8:
      return widen_integers<uint8_t>(data, stride, count, buffer);
    case DType::boolean:
      // Foreign memory may hold bytes other than 0 and 1.
      widen_integers<uint8_t>(data, stride, count, buffer);
      for (int64_t i = 0; i < count; ++i) buffer[i] = buffer[i] != 0;
      return buffer;
    default:
      if (stride == sizeof(int64_t)) return reinterpret_cast<const int64_t*>(data);
      return widen_integers<int64_t>(data, stride, count, buffer);
  }
}

// Values that do not fit wrap around; for bool they must be 0 or 1.
static inline void store_integers(DType dtype, const int64_t* values, int64_t count, char* data,
                                  int64_t stride) {
  switch (dtype) {
    case DType::int32:
      return narrow_integers<int32_t>(values, count, data, stride);
    case DType::uint8:
    case DType::boolean:
      return narrow_integers<uint8_t>(values, count, data, stride);
    default:
      return narrow_integers<int64_t>(values, count, data, stride);
  }
}

// ---------------------------------------------------------------------------------------------
// Between the wide types

// Truncates; NaN becomes 0, and what int64 cannot hold its nearest limit.
PYMODEL_INLINE int64_t to_integer(float value) {
  if (!(value == value)) return 0;
  if (value >= 0x1p63f) return INT64_MAX;
  if (value < -0x1p63f) return INT64_MIN;
  return static_cast<int64_t>(value);
}

}  // namespace pymodel::cpu::PYMODEL_ISA
