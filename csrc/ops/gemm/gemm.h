// General matrix product with a fused epilogue.
//
//   z = alpha * A B + bias                        A (M, K), B (K, N), bias (N)
//   C = f(z) + residual + beta * C                residual and C (M, N)
//
// f is an activation; `preactivation` (M, N), when given, receives z for the backward pass. With
// `activation_gradient` the epilogue multiplies instead: C = (alpha * A B) * f'(preactivation),
// which is the backward pass through f fused into the product before it.
//
// A and B have one dtype (float32, float16 or bfloat16) and any strides, so transposes cost
// nothing extra. C and the (M, N) operands have unit column stride; C has A's dtype or float32.
// Sums run in float32, over k in an order fixed by the shapes: threads do not change the bits.
#pragma once

#include "core/activation.h"
#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct Gemm {
  TensorView a;              // (M, K)
  TensorView b;              // (K, N)
  TensorView c;              // (M, N)
  TensorView bias;           // (N) or null
  TensorView residual;       // (M, N) or null
  TensorView preactivation;  // (M, N) or null; written, or read with activation_gradient
  float alpha = 1.0f;
  float beta = 0.0f;  // 0 ignores what C held, even NaN
  Activation activation = Activation::none;
  bool activation_gradient = false;
  void* workspace = nullptr;  // gemm_workspace(M, N, K) bytes, aligned to 64
};

// Block extents of the cache hierarchy, shared by the kernel and its workspace.
constexpr int64_t kGemmRowBlock = 1024;
constexpr int64_t kGemmColumnBlock = 1536;
constexpr int64_t kGemmDepthBlock = 256;

// Bytes of scratch memory: one packed block of A and of B, and a float32 block of C.
static inline int64_t gemm_workspace(int64_t m, int64_t n, int64_t k) {
  // Up to a panel of padding each way; 64 is a multiple no panel exceeds.
  const int64_t rows = (m < kGemmRowBlock ? m : kGemmRowBlock) + 64;
  const int64_t columns = (n < kGemmColumnBlock ? n : kGemmColumnBlock) + 64;
  const int64_t depth = k < kGemmDepthBlock * 2 ? k + 1 : kGemmDepthBlock * 2;
  return 4 * (rows * depth + columns * depth + rows * columns) + 192;
}

PYMODEL_DECLARE_KERNEL(gemm, Gemm)

}  // namespace pymodel
