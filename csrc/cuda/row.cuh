// Dense rows that are moved 16 bytes at a time, wherever in memory they begin.
//
// Rows of an odd length, such as the 50257 classes of a vocabulary, begin at any multiple of an
// element, and packs of them at no multiple of 16. A pack is then read by two accesses, whose parts
// are put together in registers. Written packs cannot be put together so: work without sums is cut
// where the written memory has its multiples of 16, which leaves `lead` elements of the first pack
// before the row.
//
//   memory   | . . . r | r r r r | r r . . |      lead 3, columns 7, packs 3
//
// Work with sums is cut at the beginning of the row, lead 0, so that the order of the sums, and
// with it their last bit, does not depend on where the row lies.
#pragma once

#include "cuda/numeric.cuh"

namespace pymodel::PYMODEL_BACKEND {

template <typename T>
struct Row {
  T* data;  // (columns)
  int64_t columns;
  int lead = 0;  // elements of the first pack that lie before the row
};

// Elements between the last multiple of 16 bytes and `data`.
template <typename T>
__device__ __forceinline__ int lead_of(const T* data) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(data) % 16 / sizeof(T));
}

template <typename T>
__device__ __forceinline__ int64_t pack_count(const Row<T>& row) {
  return (row.columns + row.lead + kVectorLength<T> - 1) / kVectorLength<T>;
}

// The column that a pack starts at; negative for a first pack that begins before the row.
template <typename T>
__device__ __forceinline__ int64_t first_column(const Row<T>& row, int64_t pack) {
  return pack * kVectorLength<T> - row.lead;
}

// The pack that begins `lead` elements after `aligned`, a multiple of 16 bytes, read by two
// accesses.
template <typename T>
__device__ __forceinline__ Packed<T, kVectorLength<T>> load_across(const T* aligned, int lead) {
  const auto* from = reinterpret_cast<const uint32_t*>(aligned);
  const Packed<uint32_t, 4> low = load_packed<4>(from), high = load_packed<4>(from + 4);
  uint32_t words[8];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = low.element[i], words[4 + i] = high.element[i];
  const unsigned bytes = static_cast<unsigned>(lead) * sizeof(T);
#pragma unroll
  for (int i = 0; i < 6; ++i) words[i] = bytes & 8 ? words[i + 2] : words[i];
#pragma unroll
  for (int i = 0; i < 5; ++i) words[i] = bytes & 4 ? words[i + 1] : words[i];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = __funnelshift_r(words[i], words[i + 1], 8 * (bytes & 3));
  }
  Packed<T, kVectorLength<T>> result;
  memcpy(&result, words, sizeof result);
  return result;
}

// The elements of a pack; those outside the row are `fill`. No memory outside the row is read.
template <typename T>
__device__ __forceinline__ void load_pack(const Row<const T>& row, int64_t pack, float fill,
                                          float* values) {
  constexpr int V = kVectorLength<T>;
  const int64_t column = first_column(row, pack);
  const T* from = row.data + column;
  const int lead = lead_of(from);
  if (column >= lead && column + (lead == 0 ? V : 2 * V - lead) <= row.columns) {
    const Packed<T, V> loaded = lead == 0 ? load_packed<V>(from) : load_across(from - lead, lead);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = to_float(loaded.element[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const bool inside = column + i >= 0 && column + i < row.columns;
    values[i] = inside ? to_float(from[i]) : fill;
  }
}

// Packs that do not lie at multiples of 16 bytes are written element by element.
template <typename T>
__device__ __forceinline__ void store_pack(const Row<T>& row, int64_t pack, const float* values) {
  constexpr int V = kVectorLength<T>;
  const int64_t column = first_column(row, pack);
  T* to = row.data + column;
  if (lead_of(to) == 0 && column >= 0 && column + V <= row.columns) {
    Packed<T, V> rounded;
#pragma unroll
    for (int i = 0; i < V; ++i) rounded.element[i] = from_float<T>(values[i]);
    store_packed<V>(to, rounded);
    return;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const bool inside = column + i >= 0 && column + i < row.columns;
    if (inside) to[i] = from_float<T>(values[i]);
  }
}

// ---------------------------------------------------------------------------------------------
// The part of a row that a thread keeps in registers: packs threadIdx.x, threadIdx.x + blockDim.x
// and so on, `count` elements in all.

template <int count, typename T>
__device__ __forceinline__ void load_share(const Row<const T>& row, float fill,
                                           float (&values)[count]) {
  const int64_t packs = pack_count(row);
#pragma unroll
  for (int slot = 0; slot < count; slot += kVectorLength<T>) {
    const int64_t pack = slot / kVectorLength<T> * static_cast<int64_t>(blockDim.x) + threadIdx.x;
    if (pack < packs) {
      load_pack(row, pack, fill, values + slot);
    } else {
#pragma unroll
      for (int i = 0; i < kVectorLength<T>; ++i) values[slot + i] = fill;
    }
  }
}

template <int count, typename T>
__device__ __forceinline__ void store_share(const Row<T>& row, const float (&values)[count]) {
  const int64_t packs = pack_count(row);
#pragma unroll
  for (int slot = 0; slot < count; slot += kVectorLength<T>) {
    const int64_t pack = slot / kVectorLength<T> * static_cast<int64_t>(blockDim.x) + threadIdx.x;
    if (pack < packs) store_pack(row, pack, values + slot);
  }
}

// The row of the threads along x of this block.
__device__ __forceinline__ int64_t own_row() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

// A block for rows of which each thread takes about `share` elements: whole warps, at most
// `most` threads. Rows that one warp can take share a block of four and need no barrier.
inline dim3 block_for_row(int64_t columns, int64_t share, int64_t most) {
  int64_t threads = 32;
  while (threads < most && threads * share < columns) threads *= 2;
  return dim3(static_cast<unsigned>(threads), threads == 32 ? 4u : 1u);
}

}  // namespace pymodel::PYMODEL_BACKEND
