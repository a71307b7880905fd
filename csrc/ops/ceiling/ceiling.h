// What a machine does at best, for benchmarks to hold the kernels against.
//
//   ceiling_products   s = s + a * b over and over on registers, without memory and without waiting
//                      for the sum before: the rate of multiply-adds of the instruction set in use
//   ceiling_copy       target = source
//   ceiling_read       the sum of source
//
// All threads take part. A CPU has these; there is no twin on devices.
#pragma once

#include <stdint.h>

#include "core/dtype.h"
#include "core/kernel.h"

namespace pymodel {

struct CeilingProducts {
  DType dtype = DType::float32;  // of the operands; sums are float32
  int64_t steps = 0;             // rounds of the loop in every thread
  double* flop = nullptr;        // (1): what the call computed, a multiply-add counting as two
};

struct CeilingCopy {
  const float* source = nullptr;  // (count)
  float* target = nullptr;        // (count)
  int64_t count = 0;
};

struct CeilingRead {
  const float* source = nullptr;  // (count)
  int64_t count = 0;
  float* total = nullptr;  // (1)
};

PYMODEL_DECLARE_KERNEL(ceiling_products, CeilingProducts)
PYMODEL_DECLARE_KERNEL(ceiling_copy, CeilingCopy)
PYMODEL_DECLARE_KERNEL(ceiling_read, CeilingRead)

}  // namespace pymodel
