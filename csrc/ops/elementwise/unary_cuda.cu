// CUDA unary operations and their derivatives, in float32. As in binary_cuda.cu, the operation is
// chosen once per slot of elements.
#include "ops/elementwise/circular.cuh"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/map.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Device helpers

constexpr float kTwoOverSqrtPi = 1.12837916709551257f;

struct Bounds {
  float low, high;
};

template <UnaryOp op>
struct OpConstant {
  static constexpr UnaryOp value = op;
};

// Calls body with the operation as a compile-time constant.
template <typename Body>
__device__ __forceinline__ void dispatch_op(UnaryOp op, const Body& body) {
  switch (op) {
    case UnaryOp::neg:
      return body(OpConstant<UnaryOp::neg>{});
    case UnaryOp::abs:
      return body(OpConstant<UnaryOp::abs>{});
    case UnaryOp::exp:
      return body(OpConstant<UnaryOp::exp>{});
    case UnaryOp::log:
      return body(OpConstant<UnaryOp::log>{});
    case UnaryOp::sqrt:
      return body(OpConstant<UnaryOp::sqrt>{});
    case UnaryOp::rsqrt:
      return body(OpConstant<UnaryOp::rsqrt>{});
    case UnaryOp::reciprocal:
      return body(OpConstant<UnaryOp::reciprocal>{});
    case UnaryOp::square:
      return body(OpConstant<UnaryOp::square>{});
    case UnaryOp::sin:
      return body(OpConstant<UnaryOp::sin>{});
    case UnaryOp::cos:
      return body(OpConstant<UnaryOp::cos>{});
    case UnaryOp::erf:
      return body(OpConstant<UnaryOp::erf>{});
    case UnaryOp::clamp:
      return body(OpConstant<UnaryOp::clamp>{});
  }
}

template <UnaryOp op>
__device__ __forceinline__ float apply(float x, Bounds bounds) {
  if constexpr (op == UnaryOp::neg) return -x;
  if constexpr (op == UnaryOp::abs) return fabsf(x);
  if constexpr (op == UnaryOp::exp) return expf(x);
  if constexpr (op == UnaryOp::log) return logf(x);
  if constexpr (op == UnaryOp::sqrt) return sqrtf(x);
  if constexpr (op == UnaryOp::rsqrt) return 1.0f / sqrtf(x);
  if constexpr (op == UnaryOp::reciprocal) return 1.0f / x;
  if constexpr (op == UnaryOp::square) return x * x;
  if constexpr (op == UnaryOp::sin) return sine(x, 0);
  if constexpr (op == UnaryOp::cos) return sine(x, 1);
  if constexpr (op == UnaryOp::erf) return erff(x);
  // NaN fails both comparisons and stays.
  const float raised = x < bounds.low ? bounds.low : x;
  return raised > bounds.high ? bounds.high : raised;
}

// dy * f'(x)
template <UnaryOp op>
__device__ __forceinline__ float apply_derivative(float dy, float x, Bounds bounds) {
  if constexpr (op == UnaryOp::neg) return -dy;
  if constexpr (op == UnaryOp::abs) return x > 0.0f ? dy : x < 0.0f ? -dy : 0.0f;
  if constexpr (op == UnaryOp::exp) return dy * expf(x);
  if constexpr (op == UnaryOp::log) return dy / x;
  if constexpr (op == UnaryOp::sqrt) return dy * 0.5f / sqrtf(x);
  if constexpr (op == UnaryOp::rsqrt) return dy * -0.5f / (x * sqrtf(x));
  if constexpr (op == UnaryOp::reciprocal) return -dy / (x * x);
  if constexpr (op == UnaryOp::square) return dy * (x + x);
  if constexpr (op == UnaryOp::sin) return dy * sine(x, 1);
  if constexpr (op == UnaryOp::cos) return -dy * sine(x, 0);
  if constexpr (op == UnaryOp::erf) return dy * expf(-x * x) * kTwoOverSqrtPi;
  return x >= bounds.low && x <= bounds.high ? dy : 0.0f;
}

// ---------------------------------------------------------------------------------------------
// Kernels: functions of map_kernel over the views out, x and dx, dy, x

template <typename T>
struct ForwardFunction {
  static constexpr int kWidth = kVectorLength<T>;
  UnaryOp op;
  Bounds bounds;

  template <int width>
  __device__ __forceinline__ void run(const Place<2>& place, const bool* repeats) const {
    float x[width];
    load_as<T>(place.at[1], repeats[1], place.count, x);
    dispatch_op(op, [&](auto constant) {
#pragma unroll
      for (int i = 0; i < width; ++i) x[i] = apply<decltype(constant)::value>(x[i], bounds);
    });
    store_as<T>(place.at[0], place.count, x);
  }
};

template <typename T>
struct BackwardFunction {
  static constexpr int kWidth = kVectorLength<T>;
  UnaryOp op;
  Bounds bounds;

  template <int width>
  __device__ __forceinline__ void run(const Place<3>& place, const bool* repeats) const {
    float dy[width], x[width];
    load_as<T>(place.at[1], repeats[1], place.count, dy);
    load_as<T>(place.at[2], repeats[2], place.count, x);
    dispatch_op(op, [&](auto constant) {
#pragma unroll
      for (int i = 0; i < width; ++i) {
        dy[i] = apply_derivative<decltype(constant)::value>(dy[i], x[i], bounds);
      }
    });
    store_as<T>(place.at[0], place.count, dy);
  }
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void unary(const UnaryArguments& args, const Execution& on) {
  const Launch launch("unary", on, {&args.x, &args.out});
  const TensorView* const views[] = {&args.out, &args.x};
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    map_elements(launch, views, ForwardFunction<T>{args.op, {args.low, args.high}});
  });
}

void unary_backward(const UnaryBackward& args, const Execution& on) {
  const Launch launch("unary_backward", on, {&args.dy, &args.x, &args.dx});
  const TensorView* const views[] = {&args.dx, &args.dy, &args.x};
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    map_elements(launch, views, BackwardFunction<T>{args.op, {args.low, args.high}});
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
