// Sine and cosine of arguments of any size. CUDA's own sinf and cosf keep the digits of large
// arguments in an array that is indexed at run time, in local memory; this one needs registers
// only.
//
// Source of the reduction: Payne and Hanek, "Radian reduction for trigonometric functions", SIGNUM
// Newsletter 18, 1983.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pymodel::PYMODEL_BACKEND {

// 1 / (2 pi) in binary, 2^-32 first: a word of zeros and the 224 digits that floats reach.
__constant__ const uint32_t kInverseTwoPi[] = {0x00000000u, 0x28be60dbu, 0x9391054au, 0x7f09d5f4u,
                                               0x7d4d3770u, 0x36d8a566u, 0x4f10e410u, 0x7f9458eau};

// x / (2 pi) without its whole part, in units of 2^-64, for finite x >= 1/2. With x = m 2^e, only
// the digits of 2^e / (2 pi) behind the point matter; 96 of them leave an error below 2^-72.
__device__ __forceinline__ uint64_t turns_of(float x) {
  const uint32_t bits = __float_as_uint(x);
  const uint32_t position = (bits >> 23) - 150 + 32, shift = position % 32;
  const uint32_t mantissa = (bits & 0x007fffffu) | 0x00800000u;
  const uint32_t* digits = kInverseTwoPi + position / 32;
  const uint64_t high = uint64_t{digits[0]} << 32 | digits[1];
  const uint64_t low = uint64_t{digits[2]} << 32 | digits[3];
  const uint64_t first = high << shift | low >> 32 >> (32 - shift), next = low << shift >> 32;
  return mantissa * first + (mantissa * next >> 32);
}

// sin(x + quarters pi / 2), with an error of about two units in the last place.
__device__ __forceinline__ float sine(float x, uint32_t quarters) {
  const float magnitude = fabsf(x);
  if (!(magnitude <= 3.4028235e38f)) return x - x;  // NaN for infinity too
  float half_turns = x * 0.31830988618379067f;
  if (magnitude > 0.78539816f) {
    uint64_t turns = turns_of(magnitude);
    if (x < 0.0f) turns = 0 - turns;
    const uint64_t nearest = (turns + (uint64_t{1} << 61)) >> 62;
    quarters += static_cast<uint32_t>(nearest);
    half_turns = static_cast<float>(static_cast<int64_t>(turns - (nearest << 62))) * 0x1p-63f;
  }
  const float value = quarters % 2 == 1 ? cospif(half_turns) : sinpif(half_turns);
  return quarters & 2 ? -value : value;
}

}  // namespace pymodel::PYMODEL_BACKEND
