// CPU embedding. Backward sorts the positions by index, so that every row of the gradient is summed
// by one task, in the order of the positions, and written once. No hardware foresees where the next
// row to be added lies: it is fetched while one is added.
#include "core/integers.h"
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops/embedding/embedding.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
PYMODEL_INLINE T* row_of(const TensorView& view, int64_t row) {
  return data_as<T>(view) + row * view.strides[0];
}

// ---------------------------------------------------------------------------------------------
// Forward

static int64_t first_invalid(const TensorView& indices, int64_t entries) {
  for (int64_t i = 0; i < indices.shape[0]; ++i) {
    const int64_t index = integer_at(indices, i);
    if (index < 0 || index >= entries) return i;
  }
  return -1;
}

template <typename T>
static void forward(const EmbeddingForward& args) {
  *args.invalid = first_invalid(args.indices, args.weight.shape[0]);
  if (*args.invalid >= 0) return;
  const int64_t count = args.y.shape[0], columns = args.y.shape[1];
  parallel_chunks(count, 16, count * columns, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* entry = row_of<T>(args.weight, integer_at(args.indices, i));
      memcpy(row_of<T>(args.y, i), entry, static_cast<size_t>(columns) * sizeof(T));
    }
  });
}

// ---------------------------------------------------------------------------------------------
// Backward

// A task takes the runs of equal index that start within so many sorted positions. Runs that are
// longer, as of a padding token, would leave the other threads waiting: they are cut into narrow
// stripes of columns. A wide stripe bounds the float32 sums of any other row.
constexpr int64_t kPositions = 256;
constexpr int64_t kNarrow = 128;
constexpr int64_t kWide = 1024;

PYMODEL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Positions of `indices` ordered by index and then by position: a radix sort over bytes, as many as
// the table's size needs. The result lies in one of the two halves of `workspace`.
static const int64_t* sort_positions(const TensorView& indices, int64_t entries,
                                     int64_t* workspace) {
  const int64_t count = indices.shape[0];
  int64_t *from = workspace, *to = workspace + count;
  for (int64_t i = 0; i < count; ++i) from[i] = i;
  for (int shift = 0; shift < 63 && ((entries - 1) >> shift) > 0; shift += 8) {
    int64_t start[257] = {};
    for (int64_t i = 0; i < count; ++i) ++start[((integer_at(indices, i) >> shift) & 255) + 1];
    for (int digit = 0; digit < 256; ++digit) start[digit + 1] += start[digit];
    for (int64_t i = 0; i < count; ++i) {
      to[start[(integer_at(indices, from[i]) >> shift) & 255]++] = from[i];
    }
    int64_t* const swapped = from;
    from = to;
    to = swapped;
  }
  return from;
}

// The sorted positions as runs of equal index.
struct Runs {
  const EmbeddingBackward& args;
  const int64_t* positions;  // (count)
  int64_t count;
  bool streaming;  // dweight is written past the caches

  int64_t index(int64_t k) const { return integer_at(args.indices, positions[k]); }

  // Where the run of `k` ends.
  int64_t end_of(int64_t k) const {
    const int64_t index_of_run = index(k);
    while (k < count && index(k) == index_of_run) ++k;
    return k;
  }
};

// Sums the rows dy[positions[begin .. end)], of one index, into columns first to last of its row of
// dweight, at most kWide of them. The padding index sums nothing.
template <typename T>
static void add_rows(const Runs& runs, int64_t begin, int64_t end, int64_t first, int64_t last) {
  const EmbeddingBackward& args = runs.args;
  float total[kWide];
  const int64_t width = last - first, index = runs.index(begin);
  T* out = row_of<T>(args.dweight, index) + first;
  for_each_vector(width, [&](int64_t i, int64_t n) {
    store(total + i, args.accumulate ? load_lanes(out + i, n) : zero());
  });
  for (int64_t k = begin; k < end && index != args.padding_index; ++k) {
    const int64_t ahead = smaller(k + 1, runs.count - 1);
    const T* dy = row_of<T>(args.dy, runs.positions[k]) + first;
    const T* next = row_of<T>(args.dy, runs.positions[ahead]) + first;
    for_each_vector(width, [&](int64_t i, int64_t n) {
      __builtin_prefetch(next + i);
      store(total + i, load(total + i) + load_lanes(dy + i, n));
    });
  }
  write_row(out, width, runs.streaming, [&](int64_t i, int64_t) { return load(total + i); });
}

// The runs that start in [begin, end) of the sorted positions, but for the long ones.
template <typename T>
static void add_short_runs(const Runs& runs, int64_t begin, int64_t end) {
  const int64_t columns = runs.args.dy.shape[1];
  int64_t start = begin;
  while (start > 0 && start < end && runs.index(start) == runs.index(start - 1)) ++start;
  while (start < end) {
    const int64_t stop = runs.end_of(start);
    for (int64_t first = 0; first < columns && stop - start <= kPositions; first += kWide) {
      add_rows<T>(runs, start, stop, first, smaller(first + kWide, columns));
    }
    start = stop;
  }
}

// Columns first to last of the long runs: one holds at least one whole multiple of kPositions.
template <typename T>
static void add_long_runs(const Runs& runs, int64_t first, int64_t last) {
  int64_t done = 0;
  for (int64_t k = kPositions; k < runs.count; k += kPositions) {
    if (k < done || runs.index(k) != runs.index(k - 1)) continue;
    int64_t start = k;
    while (start > 0 && runs.index(start - 1) == runs.index(k)) --start;
    done = runs.end_of(k);
    if (done - start > kPositions) add_rows<T>(runs, start, done, first, last);
  }
}

// Zeros the rows begin to end - 1 of dweight that no position names.
template <typename T>
static void zero_others(const Runs& runs, int64_t begin, int64_t end) {
  int64_t k = 0;  // the first position of an index that is not below `begin`
  for (int64_t step = runs.count; step > 0;) {
    const int64_t half = step / 2;
    const bool below = runs.index(k + half) < begin;
    k = below ? k + half + 1 : k;
    step = below ? step - half - 1 : half;
  }
  for (int64_t e = begin; e < end; ++e) {
    if (k < runs.count && runs.index(k) == e) {
      k = runs.end_of(k);
    } else {
      write_row(row_of<T>(runs.args.dweight, e), runs.args.dy.shape[1], runs.streaming,
                [](int64_t, int64_t) { return zero(); });
    }
  }
}

template <typename T>
static void backward(const EmbeddingBackward& args) {
  const int64_t count = args.dy.shape[0], columns = args.dy.shape[1],
                entries = args.dweight.shape[0];
  const int64_t bytes = entries * columns * static_cast<int64_t>(sizeof(T));
  const Runs runs = {args,
                     sort_positions(args.indices, entries, static_cast<int64_t*>(args.workspace)),
                     count, !args.accumulate && bytes >= kStreamBytes};
  const auto finish = [&] {
    if (runs.streaming) finish_streaming();
  };
  if (!args.accumulate) {
    parallel_chunks(entries, 64, entries * columns, [&](int64_t begin, int64_t end) {
      zero_others<T>(runs, begin, end);
      finish();
    });
  }
  const int64_t ranges = (count + kPositions - 1) / kPositions;
  parallel_for_dynamic(ranges, count * columns, [&](int64_t range) {
    add_short_runs<T>(runs, range * kPositions, smaller((range + 1) * kPositions, count));
    finish();
  });
  const int64_t stripes = count > kPositions ? (columns + kNarrow - 1) / kNarrow : 0;
  parallel_for_dynamic(stripes, count * columns, [&](int64_t stripe) {
    add_long_runs<T>(runs, stripe * kNarrow, smaller((stripe + 1) * kNarrow, columns));
    finish();
  });
}

}  // namespace

void embedding_forward(const EmbeddingForward& args) {
  switch (item_size(args.weight.dtype)) {  // rows are only copied: their size is all that matters
    case 1:
      return forward<uint8_t>(args);
    case 2:
      return forward<bfloat16>(args);
    case 4:
      return forward<float>(args);
    default:
      return forward<int64_t>(args);
  }
}

void embedding_backward(const EmbeddingBackward& args) {
  dispatch_floating(args.dy.dtype, [&](auto type) { backward<decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
