// The checked product of two matrices, for the bindings that are made of products.
#pragma once

#include <string>

#include "bindings/bindings.h"

namespace pymodel {

// c = f(alpha a b + bias) + residual + beta c, or its gradient; ops/gemm/gemm.h has the formula.
// a (M, K), b (K, N) in any strides; c, residual, preactivation (M, N); bias (N). A b that is a
// weight may stay packed for the next product (bindings/kept_weights.h).
void run_gemm(const Array& a, const Array& b, const Array& c, const Array* bias,
              const Array* residual, const Array* preactivation, float alpha, float beta,
              const std::string& activation, bool activation_gradient, bool b_is_weight);

}  // namespace pymodel
