// Walks a loop nest (core/strided_loop.h) by its runs along the innermost dimension, cut into tasks
// by shape alone.
#pragma once

#include "core/strided_loop.h"
#include "cpu/parallel.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Elements of one task: enough to hide the start of a thread, little enough to share out evenly.
constexpr int64_t kTaskElements = 16384;

// A position in all but the innermost `skipped` dimensions.
template <int views>
struct Cursor {
  const StridedLoop<views>* loop;
  int dims;
  int64_t index[kMaxDims + 1];
  char* data[views];

  void step() {
    for (int d = dims - 1; d >= 0; --d) {
      const bool wraps = ++index[d] == loop->shape[d];
      for (int v = 0; v < views; ++v) {
        const int64_t stride = loop->strides[v][d];
        data[v] += wraps ? stride * (1 - loop->shape[d]) : stride;
      }
      if (!wraps) return;
      index[d] = 0;
    }
  }
};

template <int views>
PYMODEL_INLINE Cursor<views> cursor_at(const StridedLoop<views>& loop, int64_t row, int skipped) {
  Cursor<views> cursor;
  cursor.loop = &loop;
  cursor.dims = loop.ndim - skipped;
  for (int v = 0; v < views; ++v) cursor.data[v] = loop.data[v];
  for (int d = cursor.dims - 1; d >= 0; --d) {
    cursor.index[d] = row % loop.shape[d];
    row /= loop.shape[d];
    for (int v = 0; v < views; ++v) cursor.data[v] += cursor.index[d] * loop.strides[v][d];
  }
  return cursor;
}

// Calls body(pointers, count) for every run along the innermost dimension, long ones in pieces.
// `cost` is the elementary operations an element takes.
template <int views, typename Body>
PYMODEL_INLINE void for_each_run(const StridedLoop<views>& loop, int64_t cost, const Body& body) {
  const int64_t rows = loop.rows(), inner = loop.inner();
  if (rows * inner == 0) return;
  const int64_t piece = inner < kTaskElements ? inner : kTaskElements;
  const int64_t pieces = (inner + piece - 1) / piece;
  const int64_t runs_per_task = kTaskElements / piece;
  parallel_chunks(rows * pieces, runs_per_task, rows * inner * cost,
                  [&](int64_t begin, int64_t end) {
                    Cursor<views> cursor = cursor_at(loop, begin / pieces, 1);
                    int64_t part = begin % pieces;
                    for (int64_t run = begin; run < end; ++run) {
                      char* pointers[views];
                      for (int v = 0; v < views; ++v) {
                        pointers[v] = cursor.data[v] + part * piece * loop.inner_stride(v);
                      }
                      const int64_t left = inner - part * piece;
                      body(pointers, left < piece ? left : piece);
                      if (++part < pieces) continue;
                      part = 0;
                      cursor.step();
                    }
                  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
