// CUDA binary operations. The operation is chosen once per slot of elements, by a branch that all
// threads take alike: memory sets the speed, and one instance per dtype serves all operations.
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/map.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Device helpers

template <BinaryOp op>
struct OpConstant {
  static constexpr BinaryOp value = op;
};

// Calls body with the operation as a compile-time constant.
template <typename Body>
__device__ __forceinline__ void dispatch_op(BinaryOp op, const Body& body) {
  switch (op) {
    case BinaryOp::add:
      return body(OpConstant<BinaryOp::add>{});
    case BinaryOp::sub:
      return body(OpConstant<BinaryOp::sub>{});
    case BinaryOp::mul:
      return body(OpConstant<BinaryOp::mul>{});
    case BinaryOp::div:
      return body(OpConstant<BinaryOp::div>{});
    case BinaryOp::maximum:
      return body(OpConstant<BinaryOp::maximum>{});
    case BinaryOp::minimum:
      return body(OpConstant<BinaryOp::minimum>{});
    case BinaryOp::pow:
      return body(OpConstant<BinaryOp::pow>{});
    case BinaryOp::eq:
      return body(OpConstant<BinaryOp::eq>{});
    case BinaryOp::ne:
      return body(OpConstant<BinaryOp::ne>{});
    case BinaryOp::lt:
      return body(OpConstant<BinaryOp::lt>{});
    case BinaryOp::le:
      return body(OpConstant<BinaryOp::le>{});
    case BinaryOp::gt:
      return body(OpConstant<BinaryOp::gt>{});
    case BinaryOp::ge:
      return body(OpConstant<BinaryOp::ge>{});
  }
}

template <BinaryOp op>
__device__ __forceinline__ float apply(float a, float b) {
  if constexpr (op == BinaryOp::add) return a + b;
  if constexpr (op == BinaryOp::sub) return a - b;
  if constexpr (op == BinaryOp::mul) return a * b;
  if constexpr (op == BinaryOp::div) return a / b;
  // NaN on either side wins: on the left by name, on the right because it fails the comparison.
  if constexpr (op == BinaryOp::maximum) return a != a || a > b ? a : b;
  if constexpr (op == BinaryOp::minimum) return a != a || a < b ? a : b;
  if constexpr (op == BinaryOp::pow) return powf(a, b);
  return 0.0f;
}

// Integers wrap around on overflow, which only unsigned arithmetic may do in C++.
template <BinaryOp op>
__device__ __forceinline__ int64_t apply(int64_t a, int64_t b) {
  const auto left = static_cast<uint64_t>(a), right = static_cast<uint64_t>(b);
  if constexpr (op == BinaryOp::add) return static_cast<int64_t>(left + right);
  if constexpr (op == BinaryOp::sub) return static_cast<int64_t>(left - right);
  if constexpr (op == BinaryOp::mul) return static_cast<int64_t>(left * right);
  if constexpr (op == BinaryOp::maximum) return a > b ? a : b;
  if constexpr (op == BinaryOp::minimum) return a < b ? a : b;
  return 0;
}

template <BinaryOp op, typename Wide>
__device__ __forceinline__ bool compare(Wide a, Wide b) {
  if constexpr (op == BinaryOp::eq) return a == b;
  if constexpr (op == BinaryOp::ne) return a != b;
  if constexpr (op == BinaryOp::lt) return a < b;
  if constexpr (op == BinaryOp::le) return a <= b;
  if constexpr (op == BinaryOp::gt) return a > b;
  return a >= b;
}

// ---------------------------------------------------------------------------------------------
// Kernels: functions of map_kernel over the views out, a, b

// One of two inputs: the slot at `at`, or the number where that is null.
template <typename Load, typename Wide, int width>
__device__ __forceinline__ void load_side(const Load& load, const char* at, bool repeats, int count,
                                          Wide number, Wide (&values)[width]) {
  if (at != nullptr) return load(at, repeats, count, values);
#pragma unroll
  for (int i = 0; i < width; ++i) values[i] = number;
}

// Reads both sides with `load`, and writes bytes for comparisons, else with `store`.
template <int width, typename Wide, typename Load, typename Store>
__device__ __forceinline__ void combine_slot(BinaryOp op, const Place<3>& place,
                                             const bool* repeats, Wide number, const Load& load,
                                             const Store& store) {
  Wide a[width], b[width];
  load_side(load, place.at[1], repeats[1], place.count, number, a);
  load_side(load, place.at[2], repeats[2], place.count, number, b);
  dispatch_op(op, [&](auto constant) {
    constexpr BinaryOp kOp = decltype(constant)::value;
    if constexpr (is_comparison(kOp)) {
      uint8_t holds[width];
#pragma unroll
      for (int i = 0; i < width; ++i) holds[i] = compare<kOp>(a[i], b[i]);
      store_slot(place.at[0], place.count, holds);
    } else {
#pragma unroll
      for (int i = 0; i < width; ++i) a[i] = apply<kOp>(a[i], b[i]);
      store(place.at[0], place.count, a);
    }
  });
}

template <typename T>
struct FloatFunction {
  static constexpr int kWidth = kVectorLength<T>;
  BinaryOp op;
  float number;

  template <int width>
  __device__ __forceinline__ void run(const Place<3>& place, const bool* repeats) const {
    combine_slot<width>(
        op, place, repeats, number,
        [](const char* at, bool same, int count, float (&values)[width]) {
          load_as<T>(at, same, count, values);
        },
        [](char* at, int count, const float (&values)[width]) { store_as<T>(at, count, values); });
  }
};

struct IntegerFunction {
  static constexpr int kWidth = 4;
  BinaryOp op;
  DType dtype;
  int64_t number;

  template <int width>
  __device__ __forceinline__ void run(const Place<3>& place, const bool* repeats) const {
    const DType type = dtype;
    combine_slot<width>(
        op, place, repeats, number,
        [type](const char* at, bool same, int count, int64_t (&values)[width]) {
          load_any(type, at, same, count, values);
        },
        [type](char* at, int count, const int64_t (&values)[width]) {
          store_any(type, at, count, values);
        });
  }
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void binary(const BinaryArguments& args, const Execution& on) {
  const Launch launch("binary", on, {&args.a, &args.b, &args.out});
  const DType dtype = args.a.data != nullptr ? args.a.dtype : args.b.dtype;
  const TensorView* const views[] = {&args.out, &args.a, &args.b};
  if (!is_floating(dtype)) {
    return map_elements(launch, views, IntegerFunction{args.op, dtype, args.scalar.integer});
  }
  dispatch_floating(dtype, [&](auto type) {
    const auto number = static_cast<float>(args.scalar.real);
    map_elements(launch, views, FloatFunction<decltype(type)>{args.op, number});
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
