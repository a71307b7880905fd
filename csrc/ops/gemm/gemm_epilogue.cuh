// The epilogue of gemm: from a run of neighbouring sums to C, all it reads and writes in accesses
// of 16 bytes where the operands allow.
#pragma once

#include "cuda/activation.cuh"
#include "cuda/numeric.cuh"

namespace pymodel::PYMODEL_BACKEND {

template <typename T>
struct Epilogue {
  const T* bias;      // (N) or null
  const T* residual;  // (M, N) or null
  T* preactivation;   // (M, N) or null
  void* c;            // (M, N) of T, or of float with c_is_float32
  int64_t residual_stride, preactivation_stride, c_stride;  // in elements, from row to row
  float alpha, beta;
  Activation activation;
  bool activation_gradient;
  bool c_is_float32;
  bool aligned;  // all of them keep to multiples of 16 bytes, row by row
};

// `kCount` neighbours as float32. `whole` says that all of them exist and lie on a multiple of
// 16 bytes; otherwise the first `count` exist, and zeros stand for the rest.
template <int kCount, typename T>
__device__ __forceinline__ void load_run(float (&values)[kCount], const T* from, int count,
                                         bool whole) {
  constexpr int kPack = kCount < kVectorLength<T> ? kCount : kVectorLength<T>;
  if (whole) {
#pragma unroll
    for (int first = 0; first < kCount; first += kPack) {
      const Packed<T, kPack> packed = load_packed<kPack>(from + first);
#pragma unroll
      for (int i = 0; i < kPack; ++i) values[first + i] = to_float(packed.element[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = i < count ? to_float(from[i]) : 0.0f;
  }
}

template <int kCount, typename T>
__device__ __forceinline__ void store_run(T* to, const float (&values)[kCount], int count,
                                          bool whole) {
  constexpr int kPack = kCount < kVectorLength<T> ? kCount : kVectorLength<T>;
  if (whole) {
#pragma unroll
    for (int first = 0; first < kCount; first += kPack) {
      Packed<T, kPack> packed;
#pragma unroll
      for (int i = 0; i < kPack; ++i) packed.element[i] = from_float<T>(values[first + i]);
      store_packed(to + first, packed);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) to[i] = from_float<T>(values[i]);
    }
  }
}

// Applies f, or multiplies by its derivative at `points`. The kind is chosen outside of the loop
// over the run, so that its elements go through the function side by side.
template <Activation kind, int kCount>
__device__ __forceinline__ void activate_run(float (&z)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) z[i] = activate(kind, z[i]);
}

template <Activation kind, int kCount>
__device__ __forceinline__ void multiply_derivative(float (&z)[kCount],
                                                    const float (&points)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) z[i] *= activation_derivative(kind, points[i]);
}

// A compile-time constant as an argument.
template <Activation kind>
struct ActivationConstant {
  static constexpr Activation value = kind;
};

// Calls body with the kind as a compile-time constant; not at all for `none`.
template <typename Body>
__device__ __forceinline__ void dispatch_activation(Activation kind, const Body& body) {
  switch (kind) {
    case Activation::none:
      return;
    case Activation::relu:
      return body(ActivationConstant<Activation::relu>{});
    case Activation::gelu:
      return body(ActivationConstant<Activation::gelu>{});
    case Activation::gelu_tanh:
      return body(ActivationConstant<Activation::gelu_tanh>{});
    case Activation::silu:
      return body(ActivationConstant<Activation::silu>{});
    case Activation::tanh:
      return body(ActivationConstant<Activation::tanh>{});
    case Activation::sigmoid:
      return body(ActivationConstant<Activation::sigmoid>{});
  }
}

// The first `count` sums of a run become C[row, column...]; C starts `c_offset` elements on.
template <int kCount, typename T>
__device__ __forceinline__ void finish_run(const Epilogue<T>& e, float (&z)[kCount],
                                           int64_t c_offset, int64_t row, int64_t column,
                                           int count) {
  const bool whole = e.aligned && count == kCount;
  float other[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) z[i] *= e.alpha;
  if (e.bias != nullptr) {
    load_run(other, e.bias + column, count, whole);
#pragma unroll
    for (int i = 0; i < kCount; ++i) z[i] += other[i];
  }
  const int64_t saved = row * e.preactivation_stride + column;
  if (e.activation_gradient) {
    load_run(other, e.preactivation + saved, count, whole);
    dispatch_activation(e.activation,
                        [&](auto kind) { multiply_derivative<decltype(kind)::value>(z, other); });
  } else {
    if (e.preactivation != nullptr) {
      // The activation is taken of what is stored, so that backward differentiates at the very
      // point that forward evaluated.
#pragma unroll
      for (int i = 0; i < kCount; ++i) z[i] = to_float(from_float<T>(z[i]));
      store_run(e.preactivation + saved, z, count, whole);
    }
    dispatch_activation(e.activation, [&](auto kind) { activate_run<decltype(kind)::value>(z); });
  }
  if (e.residual != nullptr) {
    load_run(other, e.residual + row * e.residual_stride + column, count, whole);
#pragma unroll
    for (int i = 0; i < kCount; ++i) z[i] += other[i];
  }
  const int64_t position = c_offset + row * e.c_stride + column;
  const auto write = [&](auto* c) {
    if (e.beta != 0.0f) {
      load_run(other, c + position, count, whole);
#pragma unroll
      for (int i = 0; i < kCount; ++i) z[i] += e.beta * other[i];
    }
    store_run(c + position, z, count, whole);
  };
  if (e.c_is_float32) {
    write(static_cast<float*>(e.c));
  } else {
    write(static_cast<T*>(e.c));
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
