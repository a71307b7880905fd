// Work over many tensors at once, cut evenly whatever their sizes.
//
// The elements of all tensors are numbered through, and the numbers are cut into chunks of one
// length: a chunk may hold the end of a large tensor and ten small ones. Each tensor starts at a
// multiple of 64, so that no two chunks share a cache line of any element type.
#pragma once

#include <cstdint>

namespace pymodel {

constexpr int64_t kListAlignment = 64;  // elements
constexpr int64_t kListChunk = 16384;   // elements; a multiple of the alignment

struct TensorList {
  const int64_t* starts = nullptr;  // (count + 1): the number of each tensor's first element
  int64_t count = 0;                // tensors
};

static inline int64_t list_elements(const TensorList& list) {
  return list.count == 0 ? 0 : list.starts[list.count];
}

static inline int64_t list_chunks(const TensorList& list) {
  return (list_elements(list) + kListChunk - 1) / kListChunk;
}

}  // namespace pymodel
