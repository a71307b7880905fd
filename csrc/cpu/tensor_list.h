// Walks the tensors of a list from inside a kernel.
#pragma once

#include "core/tensor_list.h"
#include "cpu/parallel.h"

namespace pymodel::cpu::PYMODEL_ISA {

// The tensor that holds the element of this number.
PYMODEL_INLINE int64_t tensor_at(const TensorList& list, int64_t number) {
  int64_t low = 0, high = list.count;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (list.starts[middle] <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Calls body(tensor, begin, end) for the part of every tensor that lies in the chunk; `begin` and
// `end` count from the tensor's first element.
template <typename Tensor, typename Body>
PYMODEL_INLINE void for_each_piece(const TensorList& list, const Tensor* tensors, int64_t chunk,
                                   const Body& body) {
  const int64_t first = chunk * kListChunk, last = first + kListChunk;
  for (int64_t t = tensor_at(list, first); t < list.count && list.starts[t] < last; ++t) {
    const int64_t start = list.starts[t];
    const int64_t begin = first > start ? first - start : 0;
    const int64_t end = last - start < tensors[t].count ? last - start : tensors[t].count;
    if (begin < end) body(tensors[t], begin, end);
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
