// CPU product of an activated gate and what it lets through. The functions are those of the gemm
// epilogue (cpu/activations.h).
#include "cpu/activations.h"
#include "ops/elementwise/map_floats.h"
#include "ops/gated_activation/gated_activation.h"

namespace pymodel::cpu::PYMODEL_ISA {

void gated_activation_forward(const GatedActivationForward& args) {
  dispatch_activation(args.activation, [&](auto constant) {
    constexpr Activation kind = decltype(constant)::value;
    map_blocks<1, 2>(
        {&args.y, &args.gate, &args.up}, [](float* const* to, const float* const* from, int64_t n) {
          for_each_vector(n, [&](int64_t i, int64_t lanes) {
            const Vec gate = load_lanes(from[0] + i, lanes), up = load_lanes(from[1] + i, lanes);
            store_lanes(to[0] + i, activate<kind>(gate) * up, lanes);
          });
        });
  });
}

void gated_activation_backward(const GatedActivationBackward& args) {
  dispatch_activation(args.activation, [&](auto constant) {
    constexpr Activation kind = decltype(constant)::value;
    map_blocks<2, 3>({&args.dgate, &args.dup, &args.dy, &args.gate, &args.up},
                     [](float* const* to, const float* const* from, int64_t n) {
                       for_each_vector(n, [&](int64_t i, int64_t lanes) {
                         const Vec dy = load_lanes(from[0] + i, lanes);
                         const Vec gate = load_lanes(from[1] + i, lanes);
                         const Vec up = load_lanes(from[2] + i, lanes);
                         store_lanes(to[0] + i, dy * up * activation_derivative<kind>(gate), lanes);
                         store_lanes(to[1] + i, dy * activate<kind>(gate), lanes);
                       });
                     });
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
