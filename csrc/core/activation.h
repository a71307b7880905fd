// The activation functions by name: an epilogue of gemm, and operations of their own.
#pragma once

#include <cstdint>

namespace pymodel {

enum class Activation : uint8_t {
  none,
  relu,
  gelu,       // x * Phi(x), with the Gauss error function
  gelu_tanh,  // its tanh approximation, GPT-2's "gelu_new"
  silu,       // x * sigmoid(x)
  tanh,
  sigmoid,
};

}  // namespace pymodel
