// CPU activations by themselves. The functions are those of the gemm epilogue (cpu/activations.h).
#include "cpu/activations.h"
#include "ops/activation/activation.h"
#include "ops/elementwise/map_floats.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <Activation kind>
static void forward_block(const float* x, float* out, int64_t count, const void*) {
  for_each_vector(count, [&](int64_t i, int64_t n) {
    store_lanes(out + i, activate<kind>(load_lanes(x + i, n)), n);
  });
}

template <Activation kind>
static void backward_block(const float* dy, const float* x, float* dx, int64_t count, const void*) {
  for_each_vector(count, [&](int64_t i, int64_t n) {
    const Vec derivative = activation_derivative<kind>(load_lanes(x + i, n));
    store_lanes(dx + i, load_lanes(dy + i, n) * derivative, n);
  });
}

}  // namespace

void activation_forward(const ActivationForward& args) {
  dispatch_activation(args.activation, [&](auto constant) {
    map_floats(args.out, args.x, forward_block<decltype(constant)::value>, nullptr);
  });
}

void activation_backward(const ActivationBackward& args) {
  dispatch_activation(args.activation, [&](auto constant) {
    map_gradient(args.dx, args.dy, args.x, backward_block<decltype(constant)::value>, nullptr);
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
