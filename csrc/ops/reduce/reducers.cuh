// What the reduction kernels do with elements: FloatReducer for the floating types, IntegerReducer
// for the others. A thread reads Raw elements, some of them ahead of their use, and takes them into
// States; these become Partials of eight bytes, which are joined across threads, and across chunks
// in the workspace.
#pragma once

#include "ops/elementwise/values.cuh"
#include "ops/reduce/reduce.h"

namespace pymodel::PYMODEL_BACKEND {

// How the result of an output is written.
struct Finish {
  DType dtype;
  float divisor;
};

template <typename T>
struct FloatReducer {
  static constexpr int kWidth = kVectorLength<T>;
  // Slots that are read before the first is taken in: more would cost registers, and with them
  // threads that hide the latency of memory better.
  static constexpr int kAhead = 2;
  using Raw = T;
  using Partial = double;
  struct State {
    float total;
    float lost;  // sums: what rounding took from the total
  };
  ReduceOp op;

  __device__ __forceinline__ bool sums() const {
    return op == ReduceOp::sum || op == ReduceOp::squared_deviation;
  }

  __device__ __forceinline__ State start() const {
    return {sums() || op == ReduceOp::max_abs ? 0.0f : -INFINITY, 0.0f};
  }

  // Knuth's TwoSum: the rounding error of one addition, exactly (reduce.h).
  __device__ __forceinline__ static void add(State& state, float value) {
    const float sum = state.total + value;
    const float added = sum - state.total;
    state.lost += (state.total - (sum - added)) + (value - added);
    state.total = sum;
  }

  // NaN wins: it is not <= anything, and nothing replaces it.
  __device__ __forceinline__ static void raise(State& state, float value) {
    if (state.total == state.total && !(value <= state.total)) state.total = value;
  }

  // An element that changes nothing.
  __device__ __forceinline__ float neutral(float center) const {
    if (op == ReduceOp::max) return -INFINITY;
    if (op == ReduceOp::min) return INFINITY;
    return op == ReduceOp::squared_deviation ? center : 0.0f;
  }

  template <int width>
  __device__ __forceinline__ void read(const char* at, int count, Raw (&raw)[width]) const {
    load_slot(at, false, count, raw);
  }

  // Takes in the first `count` elements, element i into state i % states. The smallest element is
  // found as the largest of their negatives.
  template <int width, int states>
  __device__ __forceinline__ void take(const Raw (&raw)[width], int count,
                                       const float (&center)[width], State (&state)[states]) const {
    float x[width];
#pragma unroll
    for (int i = 0; i < width; ++i) x[i] = to_float(raw[i]);
    if (count < width) {
#pragma unroll
      for (int i = 0; i < width; ++i) x[i] = i < count ? x[i] : neutral(center[i]);
    }
    switch (op) {
      case ReduceOp::max:
#pragma unroll
        for (int i = 0; i < width; ++i) raise(state[i % states], x[i]);
        return;
      case ReduceOp::min:
#pragma unroll
        for (int i = 0; i < width; ++i) raise(state[i % states], -x[i]);
        return;
      case ReduceOp::max_abs:
#pragma unroll
        for (int i = 0; i < width; ++i) raise(state[i % states], fabsf(x[i]));
        return;
      case ReduceOp::squared_deviation:
#pragma unroll
        for (int i = 0; i < width; ++i) {
          const float deviation = x[i] - center[i];
          add(state[i % states], deviation * deviation);
        }
        return;
      default:
#pragma unroll
        for (int i = 0; i < width; ++i) add(state[i % states], x[i]);
    }
  }

  // Beyond infinity the correction is NaN and the total says it all.
  __device__ __forceinline__ Partial partial(const State& state) const {
    const double total = state.total;
    return state.lost == state.lost ? total + static_cast<double>(state.lost) : total;
  }

  __device__ __forceinline__ Partial join(Partial a, Partial b) const {
    if (sums()) return a + b;
    return a == a && !(b <= a) ? b : a;
  }

  __device__ __forceinline__ void write(const Finish& finish, char* out, Partial value) const {
    const double sign = op == ReduceOp::min ? -1.0 : 1.0;
    const float result[1] = {static_cast<float>(sign * value / finish.divisor)};
    store_any(finish.dtype, out, 1, result);
  }
};

struct IntegerReducer {
  static constexpr int kWidth = 4;
  static constexpr int kAhead = 1;
  using Raw = int64_t;
  using Partial = int64_t;
  using State = int64_t;
  ReduceOp op;
  DType dtype;

  __device__ __forceinline__ State start() const {
    switch (op) {
      case ReduceOp::max:
        return INT64_MIN;
      case ReduceOp::min:
        return INT64_MAX;
      case ReduceOp::all:
        return 1;
      default:
        return 0;
    }
  }

  template <int width>
  __device__ __forceinline__ void read(const char* at, int count, Raw (&raw)[width]) const {
    load_any(dtype, at, false, count, raw);
  }

  template <int width, int states>
  __device__ __forceinline__ void take(const Raw (&raw)[width], int count, const float (&)[width],
                                       State (&state)[states]) const {
    const bool logical = op == ReduceOp::any || op == ReduceOp::all;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const int64_t value = logical ? raw[i] != 0 : raw[i];
      if (i < count) state[i % states] = join(state[i % states], value);
    }
  }

  __device__ __forceinline__ Partial partial(const State& state) const { return state; }

  __device__ __forceinline__ Partial join(Partial a, Partial b) const {
    switch (op) {
      case ReduceOp::max:
        return a > b ? a : b;
      case ReduceOp::min:
        return a < b ? a : b;
      case ReduceOp::any:
        return a | b;
      case ReduceOp::all:
        return a & b;
      default:
        // Wraps around on overflow, which only unsigned arithmetic may do.
        return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    }
  }

  __device__ __forceinline__ void write(const Finish& finish, char* out, Partial value) const {
    const int64_t result[1] = {value};
    store_any(finish.dtype, out, 1, result);
  }
};

}  // namespace pymodel::PYMODEL_BACKEND
