// CUDA product of an activated gate and what it lets through. The functions are those of the gemm
// epilogue (cuda/activation.cuh).
#include "cuda/activation.cuh"
#include "ops/elementwise/map.cuh"
#include "ops/gated_activation/gated_activation.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Kernels: functions of map_kernel over the views y, gate, up and dgate, dup, dy, gate, up

template <typename T>
struct ForwardFunction {
  static constexpr int kWidth = kVectorLength<T>;
  Activation kind;

  template <int width>
  __device__ __forceinline__ void run(const Place<3>& place, const bool* repeats) const {
    float gate[width], up[width];
    load_as<T>(place.at[1], repeats[1], place.count, gate);
    load_as<T>(place.at[2], repeats[2], place.count, up);
    dispatch_kind(kind, [&](auto constant) {
#pragma unroll
      for (int i = 0; i < width; ++i) up[i] *= activate(decltype(constant)::value, gate[i]);
    });
    store_as<T>(place.at[0], place.count, up);
  }
};

template <typename T>
struct BackwardFunction {
  static constexpr int kWidth = kVectorLength<T>;
  Activation kind;

  template <int width>
  __device__ __forceinline__ void run(const Place<5>& place, const bool* repeats) const {
    float dy[width], gate[width], up[width];
    load_as<T>(place.at[2], repeats[2], place.count, dy);
    load_as<T>(place.at[3], repeats[3], place.count, gate);
    load_as<T>(place.at[4], repeats[4], place.count, up);
    dispatch_kind(kind, [&](auto constant) {
#pragma unroll
      for (int i = 0; i < width; ++i) {
        up[i] *= dy[i] * activation_derivative(decltype(constant)::value, gate[i]);
        dy[i] *= activate(decltype(constant)::value, gate[i]);
      }
    });
    store_as<T>(place.at[0], place.count, up);
    store_as<T>(place.at[1], place.count, dy);
  }
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void gated_activation_forward(const GatedActivationForward& args, const Execution& on) {
  const Launch launch("gated_activation", on, {&args.gate, &args.up, &args.y});
  const TensorView* const views[] = {&args.y, &args.gate, &args.up};
  dispatch_floating(args.y.dtype, [&](auto type) {
    map_elements(launch, views, ForwardFunction<decltype(type)>{args.activation});
  });
}

void gated_activation_backward(const GatedActivationBackward& args, const Execution& on) {
  const Launch launch("gated_activation backward", on, {&args.dy, &args.gate, &args.up});
  const TensorView* const views[] = {&args.dgate, &args.dup, &args.dy, &args.gate, &args.up};
  dispatch_floating(args.dy.dtype, [&](auto type) {
    map_elements(launch, views, BackwardFunction<decltype(type)>{args.activation});
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
