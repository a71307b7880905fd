// Element types of tensors. Plain data only: this header is included by kernels that are compiled
// once per instruction set, so it may define no function with external linkage.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pymodel {

enum class DType : uint8_t { float32, float16, bfloat16, int32, int64, uint8, boolean };

// Storage formats without arithmetic: kernels widen them to float (csrc/cpu/simd.h).
struct float16 {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

static inline size_t item_size(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::int64:
      return 8;
    case DType::uint8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

static inline bool is_floating(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

}  // namespace pymodel
