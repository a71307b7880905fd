// Applies functions of floating tensors block by block, at any strides and types.
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

// Calls block(results, inputs, count) for blocks of views of one shape: `outputs` that are written,
// then `inputs` that are read.
template <int outputs, int inputs, typename Block>
PYMODEL_INLINE void map_blocks(const TensorView* const (&views)[outputs + inputs],
                               const Block& block) {
  const StridedLoop<outputs + inputs> loop = make_loop<outputs + inputs>(views);
  for_each_run(loop, kFunctionCost, [&](char* const* p, int64_t count) {
    float buffers[outputs + inputs][kBlock];
    for (int64_t i = 0; i < count; i += kBlock) {
      const int64_t n = count - i < kBlock ? count - i : kBlock;
      float* results[outputs];
      const float* values[inputs];
      for (int v = 0; v < outputs + inputs; ++v) {
        const int64_t stride = loop.inner_stride(v);
        char* place = p[v] + i * stride;
        if (v < outputs) {
          results[v] = float_target(views[v]->dtype, place, stride, buffers[v]);
        } else {
          values[v - outputs] = load_floats(views[v]->dtype, place, stride, n, buffers[v]);
        }
      }
      block(results, values, n);
      for (int v = 0; v < outputs; ++v) {
        const int64_t stride = loop.inner_stride(v);
        store_floats(views[v]->dtype, results[v], n, p[v] + i * stride, stride);
      }
    }
  });
}

static inline void map_floats(const TensorView& out, const TensorView& x, UnaryBlock block,
                              const void* context) {
  map_blocks<1, 1>({&out, &x}, [&](float* const* to, const float* const* from, int64_t n) {
    block(from[0], to[0], n, context);
  });
}

static inline void map_gradient(const TensorView& dx, const TensorView& dy, const TensorView& x,
                                GradientBlock block, const void* context) {
  map_blocks<1, 2>({&dx, &dy, &x}, [&](float* const* to, const float* const* from, int64_t n) {
    block(from[0], from[1], to[0], n, context);
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
