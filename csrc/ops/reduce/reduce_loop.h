// Walks the elements that one output of a reduction takes in.
#pragma once

#include "ops/elementwise/blocks.h"
#include "ops/elementwise/strided_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Calls body(pointer, count) for every run of elements [begin, end) of the reduced dimensions, in
// blocks of at most kBlock; `base` is the first element of the output at hand.
template <typename Body>
PYMODEL_INLINE void for_each_reduced(const StridedLoop<1>& reduced, char* base, int64_t begin,
                                     int64_t end, const Body& body) {
  if (begin >= end) return;
  const int64_t inner = reduced.inner(), stride = reduced.inner_stride(0);
  Cursor<1> cursor = cursor_at(reduced, begin / inner, 1);
  cursor.data[0] += base - reduced.data[0];
  int64_t offset = begin % inner;
  while (begin < end) {
    int64_t n = inner - offset < end - begin ? inner - offset : end - begin;
    n = n < kBlock ? n : kBlock;
    body(cursor.data[0] + offset * stride, n);
    begin += n;
    offset += n;
    if (offset < inner) continue;
    offset = 0;
    cursor.step();
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
