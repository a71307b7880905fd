// Walks several views of one shape together, in the memory order of the first.
//
// Dimensions that lie evenly in every view are merged, so that most calls end as one long run;
// what is left are runs along the innermost dimension, cut into tasks by shape alone.
#pragma once

#include "core/tensor_view.h"
#include "cpu/parallel.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Elements of one task: enough to hide the start of a thread, little enough to share out evenly.
constexpr int64_t kTaskElements = 16384;

template <int views>
struct StridedLoop {
  int ndim = 0;  // at least 1
  int64_t shape[kMaxDims + 1] = {};
  int64_t strides[views][kMaxDims + 1] = {};  // in bytes
  char* data[views] = {};

  int64_t rows() const {
    int64_t count = 1;
    for (int d = 0; d + 1 < ndim; ++d) count *= shape[d];
    return count;
  }
  int64_t inner() const { return shape[ndim - 1]; }
  int64_t inner_stride(int view) const { return strides[view][ndim - 1]; }

  void swap_dims(int d, int e) {
    int64_t kept = shape[d];
    shape[d] = shape[e];
    shape[e] = kept;
    for (int v = 0; v < views; ++v) {
      kept = strides[v][d];
      strides[v][d] = strides[v][e];
      strides[v][e] = kept;
    }
  }
};

template <int views>
PYMODEL_INLINE void sort_dims(StridedLoop<views>* loop) {
  for (int d = 1; d < loop->ndim; ++d) {
    for (int e = d; e > 0 && loop->strides[0][e - 1] < loop->strides[0][e]; --e) {
      loop->swap_dims(e - 1, e);
    }
  }
}

template <int views>
PYMODEL_INLINE void merge_dims(StridedLoop<views>* loop) {
  int kept = 0;
  for (int d = 1; d < loop->ndim; ++d) {
    bool even = true;
    for (int v = 0; v < views; ++v) {
      even = even && loop->strides[v][kept] == loop->strides[v][d] * loop->shape[d];
    }
    if (!even) ++kept;
    loop->shape[kept] = even ? loop->shape[kept] * loop->shape[d] : loop->shape[d];
    for (int v = 0; v < views; ++v) loop->strides[v][kept] = loop->strides[v][d];
  }
  loop->ndim = kept + 1;
}

// The loop over `list`, whose first view is the one written. Null views never move.
template <int views>
PYMODEL_INLINE StridedLoop<views> make_loop(const TensorView* const (&list)[views]) {
  StridedLoop<views> loop;
  for (int v = 0; v < views; ++v) loop.data[v] = static_cast<char*>(list[v]->data);
  for (int d = 0; d < list[0]->ndim; ++d) {
    const int64_t extent = list[0]->shape[d];
    if (extent == 1) continue;
    for (int v = 0; v < views; ++v) {
      const auto item = static_cast<int64_t>(item_size(list[v]->dtype));
      loop.strides[v][loop.ndim] = list[v]->data == nullptr ? 0 : list[v]->strides[d] * item;
    }
    loop.shape[loop.ndim++] = extent;
  }
  if (loop.ndim == 0) {
    // One element, as a run that looks dense.
    loop.ndim = 1;
    loop.shape[0] = 1;
    for (int v = 0; v < views; ++v) {
      const auto item = static_cast<int64_t>(item_size(list[v]->dtype));
      loop.strides[v][0] = list[v]->data == nullptr ? 0 : item;
    }
  }
  sort_dims(&loop);
  merge_dims(&loop);
  return loop;
}

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
