// Applies a function of one or two floating tensors block by block, at any strides and types.
#pragma once

#include "ops/elementwise/blocks.h"
#include "ops/elementwise/strided_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Functions on dense float32 blocks; `context` is whatever the operation needs besides.
using UnaryBlock = void (*)(const float* x, float* out, int64_t count, const void* context);
using GradientBlock = void (*)(const float* dy, const float* x, float* dx, int64_t count,
                               const void* context);

// Elementary operations that an elementary function counts as when work is shared out.
constexpr int64_t kFunctionCost = 8;

static inline void map_floats(const TensorView& out, const TensorView& x, UnaryBlock block,
                              const void* context) {
  const StridedLoop<2> loop = make_loop<2>({&out, &x});
  const int64_t out_stride = loop.inner_stride(0), x_stride = loop.inner_stride(1);
  for_each_run(loop, kFunctionCost, [&](char* const* p, int64_t count) {
    float inputs[kBlock], results[kBlock];
    for (int64_t i = 0; i < count; i += kBlock) {
      const int64_t n = count - i < kBlock ? count - i : kBlock;
      char* place = p[0] + i * out_stride;
      float* target = float_target(out.dtype, place, out_stride, results);
      block(load_floats(x.dtype, p[1] + i * x_stride, x_stride, n, inputs), target, n, context);
      store_floats(out.dtype, target, n, place, out_stride);
    }
  });
}

static inline void map_gradient(const TensorView& dx, const TensorView& dy, const TensorView& x,
                                GradientBlock block, const void* context) {
  const StridedLoop<3> loop = make_loop<3>({&dx, &dy, &x});
  const int64_t dx_stride = loop.inner_stride(0), dy_stride = loop.inner_stride(1);
  const int64_t x_stride = loop.inner_stride(2);
  for_each_run(loop, kFunctionCost, [&](char* const* p, int64_t count) {
    float gradients[kBlock], inputs[kBlock], results[kBlock];
    for (int64_t i = 0; i < count; i += kBlock) {
      const int64_t n = count - i < kBlock ? count - i : kBlock;
      char* place = p[0] + i * dx_stride;
      float* target = float_target(dx.dtype, place, dx_stride, results);
      block(load_floats(dy.dtype, p[1] + i * dy_stride, dy_stride, n, gradients),
            load_floats(x.dtype, p[2] + i * x_stride, x_stride, n, inputs), target, n, context);
      store_floats(dx.dtype, target, n, place, dx_stride);
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
