// CUDA activations by themselves. The functions are those of the gemm epilogue
// (cuda/activation.cuh); the kind is chosen once per slot of elements.
#include "cuda/activation.cuh"
#include "ops/activation/activation.h"
#include "ops/elementwise/map.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Kernels: functions of map_kernel over the views out, x and dx, dy, x

template <typename T>
struct ForwardFunction {
  static constexpr int kWidth = kVectorLength<T>;
  Activation kind;

  template <int width>
  __device__ __forceinline__ void run(const Place<2>& place, const bool* repeats) const {
    float x[width];
    load_as<T>(place.at[1], repeats[1], place.count, x);
    dispatch_kind(kind, [&](auto constant) {
#pragma unroll
      for (int i = 0; i < width; ++i) x[i] = activate(decltype(constant)::value, x[i]);
    });
    store_as<T>(place.at[0], place.count, x);
  }
};

template <typename T>
struct BackwardFunction {
  static constexpr int kWidth = kVectorLength<T>;
  Activation kind;

  template <int width>
  __device__ __forceinline__ void run(const Place<3>& place, const bool* repeats) const {
    float dy[width], x[width];
    load_as<T>(place.at[1], repeats[1], place.count, dy);
    load_as<T>(place.at[2], repeats[2], place.count, x);
    dispatch_kind(kind, [&](auto constant) {
#pragma unroll
      for (int i = 0; i < width; ++i) {
        dy[i] *= activation_derivative(decltype(constant)::value, x[i]);
      }
    });
    store_as<T>(place.at[0], place.count, dy);
  }
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void activation_forward(const ActivationForward& args, const Execution& on) {
  const Launch launch("activation_forward", on, {&args.x, &args.out});
  const TensorView* const views[] = {&args.out, &args.x};
  dispatch_floating(args.x.dtype, [&](auto type) {
    map_elements(launch, views, ForwardFunction<decltype(type)>{args.activation});
  });
}

void activation_backward(const ActivationBackward& args, const Execution& on) {
  const Launch launch("activation_backward", on, {&args.dy, &args.x, &args.dx});
  const TensorView* const views[] = {&args.dx, &args.dy, &args.x};
  dispatch_floating(args.x.dtype, [&](auto type) {
    map_elements(launch, views, BackwardFunction<decltype(type)>{args.activation});
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
