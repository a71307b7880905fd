// How the threads of a block share a row: each holds up to kElements of it in registers, in packs
// of `V` neighbours that one access moves. Pack p of thread t starts at column (p * threads + t) *
// V, so that neighbouring threads touch neighbouring memory.
#pragma once

#include "cuda/launch.h"
#include "cuda/numeric.cuh"
#include "cuda/reduce.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr int kElements = 16;

// A matrix of T as kernels see it: (rows, columns), dense along columns.
template <typename T>
struct Rows {
  T* data;         // null: not given
  int64_t stride;  // elements from one row to the next

  __device__ __forceinline__ T* operator[](int64_t row) const { return data + row * stride; }
};

template <typename T>
Rows<T> rows_of(const TensorView& view) {
  return {data_as<T>(view), view.strides[0]};
}

// Calls body(slot, column) for this thread's packs; `slot` numbers its elements and is known to the
// compiler, which registers need.
template <int V, typename Body>
__device__ __forceinline__ void for_each_pack(int columns, const Body& body) {
#pragma unroll
  for (int slot = 0; slot < kElements; slot += V) {
    const int column =
        (slot / V * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * V;
    if (column < columns) body(slot, column);
  }
}

// Calls body(slot, column) for this thread's elements.
template <int V, typename Body>
__device__ __forceinline__ void for_each_element(int columns, const Body& body) {
  for_each_pack<V>(columns, [&](int slot, int column) {
#pragma unroll
    for (int i = 0; i < V; ++i) body(slot + i, column + i);
  });
}

template <int V, typename T>
__device__ __forceinline__ void load_row(const T* row, int columns, float (&values)[kElements]) {
  for_each_pack<V>(columns, [&](int slot, int column) {
    const Packed<T, V> pack = load_packed<V>(row + column);
#pragma unroll
    for (int i = 0; i < V; ++i) values[slot + i] = to_float(pack.element[i]);
  });
}

template <int V, typename T>
__device__ __forceinline__ void store_row(T* row, int columns, const float (&values)[kElements]) {
  for_each_pack<V>(columns, [&](int slot, int column) {
    Packed<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; ++i) pack.element[i] = from_float<T>(values[slot + i]);
    store_packed<V>(row + column, pack);
  });
}

// V neighbours of a parameter (columns), or `standard` where it was not given.
template <int V, typename T>
__device__ __forceinline__ void load_parameter(const T* parameter, int column, float standard,
                                               float (&values)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] = standard;
  if (parameter == nullptr) return;
  const Packed<T, V> pack = load_packed<V>(parameter + column);
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] = to_float(pack.element[i]);
}

// ---------------------------------------------------------------------------------------------
// Launching

// Threads that hold a row of `columns` in packs of `pack`: whole warps, as few as can.
inline int threads_for_row(int64_t columns, int pack) {
  const int64_t packs = kElements / pack;
  const int64_t threads = (columns + pack * packs - 1) / (pack * packs);
  return static_cast<int>((threads + kWarp - 1) / kWarp * kWarp);
}

// Narrow rows take one warp each and share a block of four.
inline dim3 block_of(int threads) {
  return dim3(static_cast<unsigned>(threads), threads == kWarp ? 4u : 1u);
}

// Whether every row of every given tensor can be read in 16-byte packs.
inline bool packs_fit(int64_t columns, std::initializer_list<const TensorView*> views) {
  for (const TensorView* view : views) {
    if (view->data == nullptr) continue;
    const bool rows_fit = view->ndim < 2 || aligned_16(view->strides[0], view->dtype);
    if (!aligned_16(view->data) || !rows_fit || !aligned_16(columns, view->dtype)) return false;
  }
  return true;
}

}  // namespace pymodel::PYMODEL_BACKEND
