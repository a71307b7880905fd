// CPU embedding. Backward sorts the positions by index, so that every row of the gradient is summed
// by one task, in the order of the positions, and written once.
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

// A task is a range of positions times a stripe of columns, so that a batch which repeats one index
// thousands of times still keeps every thread busy.
constexpr int64_t kPositions = 256;
constexpr int64_t kStripe = 128;

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

// Adds the rows dy[positions[begin .. end)] to one row of dweight, columns first to last. The sum
// is kept in float32 until all are in, and rows are read one after the other as they lie in memory.
template <typename T>
static void add_rows(const EmbeddingBackward& args, T* out, const int64_t* positions, int64_t begin,
                     int64_t end, int64_t first, int64_t last) {
  float total[kStripe] = {};
  const int64_t width = last - first;
  if (args.accumulate) {
    for_each_vector(
        width, [&](int64_t i, int64_t n) { store(total + i, load_lanes(out + first + i, n)); });
  }
  for (int64_t k = begin; k < end; ++k) {
    const T* dy = row_of<T>(args.dy, positions[k]) + first;
    for_each_vector(width, [&](int64_t i, int64_t n) {
      store(total + i, load(total + i) + load_lanes(dy + i, n));
    });
  }
  for_each_vector(width,
                  [&](int64_t i, int64_t n) { store_lanes(out + first + i, load(total + i), n); });
}

// The runs of equal index that start in [begin, end) of the sorted positions.
template <typename T>
static void add_runs(const EmbeddingBackward& args, const int64_t* positions, int64_t begin,
                     int64_t end, int64_t first, int64_t last) {
  const int64_t count = args.indices.shape[0];
  const auto index_of = [&](int64_t k) { return integer_at(args.indices, positions[k]); };
  int64_t k = begin;
  while (k > 0 && k < end && index_of(k) == index_of(k - 1)) ++k;  // a run from before
  while (k < end) {
    const int64_t index = index_of(k), start = k;
    while (k < count && index_of(k) == index) ++k;
    if (index == args.padding_index) continue;
    add_rows<T>(args, row_of<T>(args.dweight, index), positions, start, k, first, last);
  }
}

template <typename T>
static void backward(const EmbeddingBackward& args) {
  const int64_t count = args.dy.shape[0], columns = args.dy.shape[1],
                entries = args.dweight.shape[0];
  if (!args.accumulate) {
    parallel_chunks(entries, 64, entries * columns, [&](int64_t begin, int64_t end) {
      for (int64_t e = begin; e < end; ++e) {
        memset(row_of<T>(args.dweight, e), 0, static_cast<size_t>(columns) * sizeof(T));
      }
    });
  }
  const int64_t* positions =
      sort_positions(args.indices, entries, static_cast<int64_t*>(args.workspace));
  const int64_t ranges = (count + kPositions - 1) / kPositions;
  const int64_t stripes = (columns + kStripe - 1) / kStripe;
  parallel_for_dynamic(ranges * stripes, count * columns, [&](int64_t task) {
    const int64_t begin = task / stripes * kPositions, first = task % stripes * kStripe;
    const int64_t end = begin + kPositions < count ? begin + kPositions : count;
    const int64_t last = first + kStripe < columns ? first + kStripe : columns;
    add_runs<T>(args, positions, begin, end, first, last);
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
