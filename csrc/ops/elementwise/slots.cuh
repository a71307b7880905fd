// From the number of a thread to a place in several strided tensors.
//
// The innermost dimension is cut into slots of `width` neighbours, one 16-byte access or less; a
// thread works on whole slots, numbered through all dimensions. Slots have 32-bit numbers, which
// divide several times faster than 64-bit ones; loops of more slots are launched in parts. Offsets
// in memory have 64 bits.
#pragma once

#include <cuda_runtime.h>

#include "core/host_device.h"
#include "core/strided_loop.h"

namespace pymodel::PYMODEL_BACKEND {

constexpr int64_t kMaxSlots = int64_t{1} << 31;  // numbers of slots stay below this

// Division of numbers below 2^31 by one divisor, as a multiplication and a shift.
// Source: Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI
// 1994, figure 4.1.
struct Divisor {
  uint32_t value = 1, multiplier = 1, shift = 0;

  PYMODEL_HOST_DEVICE uint32_t divide(uint32_t number) const {
    const auto high = static_cast<uint32_t>(uint64_t{number} * multiplier >> 32);
    return (high + number) >> shift;
  }
};

inline Divisor divisor_of(int64_t value) {
  Divisor result;
  result.value = static_cast<uint32_t>(value);
  while ((int64_t{1} << result.shift) < value) ++result.shift;
  const int64_t excess = (int64_t{1} << result.shift) - value;
  result.multiplier = static_cast<uint32_t>((excess << 32) / value + 1);
  return result;
}

// A loop as kernels see it; dimensions are counted from the innermost.
template <int views>
struct Slots {
  uint32_t count = 0;  // slots of all rows
  int ndim = 1;
  int64_t inner = 0;                 // elements along the innermost dimension
  Divisor extents[kMaxDims];         // in slots along the innermost dimension
  int64_t strides[views][kMaxDims];  // in bytes, from one slot or index to the next
  char* data[views];                 // null for a view that is a number
  bool repeats[views];               // the elements of a slot are one and the same
};

template <int views>
struct Place {
  char* at[views];
  int count;  // elements of this slot: `width`, or fewer at the end of a row
};

// The slot of this number, counted from the elements at `from`.
template <int width, int views>
__device__ __forceinline__ Place<views> locate(const Slots<views>& slots, uint32_t slot,
                                               char* const (&from)[views]) {
  Place<views> place;
#pragma unroll
  for (int v = 0; v < views; ++v) place.at[v] = from[v];
  place.count = width;
#pragma unroll
  for (int d = 0; d < kMaxDims; ++d) {
    if (d == slots.ndim) break;
    uint32_t index = slot;
    if (d + 1 < slots.ndim) {
      slot = slots.extents[d].divide(index);
      index -= slot * slots.extents[d].value;
    }
#pragma unroll
    for (int v = 0; v < views; ++v) place.at[v] += slots.strides[v][d] * int64_t{index};
    if (d == 0 && width > 1) {
      const int64_t left = slots.inner - int64_t{index} * width;
      if (left < width) place.count = static_cast<int>(left);
    }
  }
  return place;
}

template <int width, int views>
__device__ __forceinline__ Place<views> locate(const Slots<views>& slots, uint32_t slot) {
  return locate<width>(slots, slot, slots.data);
}

// ---------------------------------------------------------------------------------------------
// On the host

template <int views>
Slots<views> slots_of(const StridedLoop<views>& loop, int width) {
  Slots<views> slots;
  slots.ndim = loop.ndim;
  slots.inner = loop.inner();
  int64_t count = 1;
  for (int d = 0; d < loop.ndim; ++d) {
    const int from = loop.ndim - 1 - d, step = d == 0 ? width : 1;
    const int64_t extent = (loop.shape[from] + step - 1) / step;
    slots.extents[d] = divisor_of(extent);
    for (int v = 0; v < views; ++v) slots.strides[v][d] = loop.strides[v][from] * step;
    count *= extent;
  }
  for (int v = 0; v < views; ++v) {
    slots.data[v] = loop.data[v];
    slots.repeats[v] = loop.inner_stride(v) == 0;
  }
  slots.count = static_cast<uint32_t>(count);
  return slots;
}

// Whether a view starts at a multiple of `bytes` and moves by multiples along dimensions [0, dims).
template <int views>
bool keeps_alignment(const StridedLoop<views>& loop, int view, int dims, int64_t bytes) {
  if (reinterpret_cast<uintptr_t>(loop.data[view]) % static_cast<uintptr_t>(bytes) != 0) {
    return false;
  }
  for (int d = 0; d < dims; ++d) {
    if (loop.shape[d] != 1 && loop.strides[view][d] % bytes != 0) return false;
  }
  return true;
}

// Whether every view moves along the innermost dimension by whole aligned vectors of `width`
// elements, or not at all. `items` are the sizes of the views' elements in bytes.
template <int views>
bool takes_vectors(const StridedLoop<views>& loop, const int64_t (&items)[views], int width) {
  if (loop.inner() < width) return false;
  for (int v = 0; v < views; ++v) {
    if (loop.inner_stride(v) == 0) continue;
    const int64_t bytes = items[v] * width < 16 ? items[v] * width : 16;
    if (loop.inner_stride(v) != items[v]) return false;
    if (!keeps_alignment(loop, v, loop.ndim - 1, bytes)) return false;
  }
  return true;
}

// Calls body(part) for parts of a loop of fewer than kMaxSlots slots each, most often for the
// whole.
template <int views, typename Body>
void for_each_part(StridedLoop<views> loop, int width, const Body& body) {
  int64_t slots = 1, most = 0;
  int longest = 0;
  for (int d = 0; d < loop.ndim; ++d) {
    const int64_t step = d == loop.ndim - 1 ? width : 1;
    const int64_t extent = (loop.shape[d] + step - 1) / step;
    slots *= extent;
    if (extent < most) continue;
    longest = d;
    most = extent;
  }
  if (slots == 0) return;
  if (slots < kMaxSlots) return body(loop);
  // Two halves, cut between two slots.
  const int64_t first = most / 2 * (longest == loop.ndim - 1 ? width : 1);
  const int64_t rest = loop.shape[longest] - first;
  loop.shape[longest] = first;
  for_each_part(loop, width, body);
  loop.shape[longest] = rest;
  for (int v = 0; v < views; ++v) {
    if (loop.data[v] != nullptr) loop.data[v] += first * loop.strides[v][longest];
  }
  for_each_part(loop, width, body);
}

}  // namespace pymodel::PYMODEL_BACKEND
