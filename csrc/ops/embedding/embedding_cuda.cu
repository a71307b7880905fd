// CUDA embedding. Backward sorts the positions by index, so that the rows of dy that belong to one
// entry of the table lie side by side, and sums them in their order, without atomics: ranges of
// sorted positions first, then the runs of equal index that go beyond a range. A batch that repeats
// one index thousands of times is thus summed by many blocks.
#include "cuda/launch.h"
#include "cuda/numeric.cuh"
#include "ops/embedding/embedding.h"
#include "ops/embedding/sort_positions.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kCopyThreads = 256;
constexpr int kSumThreads = 128;  // at most
constexpr int kAhead = 4;         // rows of dy whose loads are under way together

// ---------------------------------------------------------------------------------------------
// Forward

// Rows are only copied: a unit is the widest type that their layout allows.
template <typename Unit>
struct RowCopy {
  TensorView indices;  // (count)
  const Unit* weight;  // (entries, units)
  Unit* y;             // (count, units)
  int64_t entries, units;
  int64_t weight_stride, y_stride;  // units
  int64_t* invalid;
};

// An index that is no row of the table is reported and gives zeros.
template <typename Unit>
__global__ void embedding_forward_kernel(__grid_constant__ const RowCopy<Unit> rows) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (i >= rows.indices.shape[0]) return;
  const int64_t index = integer_at(rows.indices, i);
  const bool valid = index >= 0 && index < rows.entries;
  if (!valid && threadIdx.x == 0) report_fault(rows.invalid, i);
  for (int64_t u = threadIdx.x; u < rows.units; u += blockDim.x) {
    rows.y[i * rows.y_stride + u] = valid ? rows.weight[index * rows.weight_stride + u] : Unit{};
  }
}

template <typename Unit>
void copy_rows(const EmbeddingForward& args, const Launch& launch) {
  const auto in_units = [&](int64_t elements) {
    return elements * static_cast<int64_t>(item_size(args.weight.dtype)) /
           static_cast<int64_t>(sizeof(Unit));
  };
  RowCopy<Unit> rows;
  rows.indices = args.indices;
  rows.weight = data_as<const Unit>(args.weight);
  rows.y = data_as<Unit>(args.y);
  rows.entries = args.weight.shape[0];
  rows.units = in_units(args.y.shape[1]);
  rows.weight_stride = in_units(args.weight.strides[0]);
  rows.y_stride = in_units(args.y.strides[0]);
  rows.invalid = args.invalid;
  unsigned along = kWarp;
  while (along < kCopyThreads && along < rows.units) along *= 2;
  const dim3 block(along, kCopyThreads / along);
  launch(embedding_forward_kernel<Unit>, blocks_for(args.indices.shape[0], block.y), block, 0,
         rows);
}

// The largest power of two up to 16 that divides all addresses and sizes of rows.
int64_t unit_of(const EmbeddingForward& args) {
  const auto item = static_cast<int64_t>(item_size(args.weight.dtype));
  const auto layout = static_cast<int64_t>(reinterpret_cast<uintptr_t>(args.weight.data) |
                                           reinterpret_cast<uintptr_t>(args.y.data)) |
                      args.weight.strides[0] * item | args.y.strides[0] * item |
                      args.y.shape[1] * item | 16;
  return layout & -layout;
}

// ---------------------------------------------------------------------------------------------
// Backward

// The sums over a range of sorted positions, and where they go.
template <typename T>
struct RowSums {
  PositionKeys keys;
  const int64_t* positions;  // (count), sorted by key
  int64_t count, columns, stripes;
  const T* dy;  // (count, columns)
  int64_t dy_stride;
  T* dweight;  // (entries, columns)
  int64_t dweight_stride;
  float* partial;  // (ranges, 2, columns): sums of runs that come from the range before and, where
                   // they start in this one, go on in the next
  bool accumulate;

  __device__ __forceinline__ int64_t key(int64_t k) const { return keys(positions[k]); }
};

template <int N, typename T>
__device__ __forceinline__ void add_to_entry(const RowSums<T>& sums, int64_t entry, int64_t column,
                                             const float (&total)[N]) {
  T* target = sums.dweight + entry * sums.dweight_stride + column;
  Packed<T, N> result;
  if (sums.accumulate) result = load_packed<N>(target);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float before = sums.accumulate ? to_float(result.element[i]) : 0.0f;
    result.element[i] = from_float<T>(before + total[i]);
  }
  store_packed<N>(target, result);
}

// A block sums one range of positions in a stripe of columns, N neighbours a thread.
template <typename T, int N>
__global__ void sum_ranges_kernel(__grid_constant__ const RowSums<T> sums) {
  __shared__ int64_t positions[kSumRange], keys[kSumRange + 2];  // keys[0]: before the range
  const int64_t range = blockIdx.x / sums.stripes, stripe = blockIdx.x % sums.stripes;
  const int64_t begin = range * kSumRange;
  const int length = static_cast<int>(min(int64_t{kSumRange}, sums.count - begin));
  for (int k = static_cast<int>(threadIdx.x) - 1; k <= length; k += static_cast<int>(blockDim.x)) {
    const bool exists = begin + k >= 0 && begin + k < sums.count;
    const int64_t position = exists ? sums.positions[begin + k] : -1;
    if (k >= 0 && k < length) positions[k] = position;
    keys[k + 1] = exists ? sums.keys(position) : -1;
  }
  __syncthreads();
  const int64_t column = (stripe * blockDim.x + threadIdx.x) * N;
  if (column >= sums.columns) return;

  float total[N] = {};
  bool from_before = keys[0] == keys[1];
  for (int first = 0; first < length; first += kAhead) {
    Packed<T, N> rows[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int k = min(first + j, length - 1);
      rows[j] = load_packed<N>(sums.dy + positions[k] * sums.dy_stride + column);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int k = first + j;
      if (k >= length) break;
#pragma unroll
      for (int i = 0; i < N; ++i) total[i] += to_float(rows[j].element[i]);
      const int64_t key = keys[k + 1];
      if (k + 1 < length && keys[k + 2] == key) continue;
      // The end of a run, or of the range.
      const bool goes_on = keys[k + 2] == key;
      if (key == sums.keys.entries) {
        // Of no entry.
      } else if (from_before || goes_on) {
        float* partial = sums.partial + (2 * range + (from_before ? 0 : 1)) * sums.columns + column;
#pragma unroll
        for (int i = 0; i < N; ++i) partial[i] = total[i];
      } else {
        add_to_entry<N>(sums, key, column, total);
      }
#pragma unroll
      for (int i = 0; i < N; ++i) total[i] = 0.0f;
      from_before = false;
    }
  }
}

// The end of the run of equal keys that `start` belongs to.
template <typename T>
__device__ __forceinline__ int64_t end_of_run(const RowSums<T>& sums, int64_t start) {
  const int64_t key = sums.key(start);
  int64_t low = start, high = sums.count;  // low is in the run, high is beyond it
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (sums.key(middle) == key) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return high;
}

// Blocks as for sum_ranges_kernel: each finishes the run that starts in its range and goes on in
// the next ones, if there is such a run.
template <typename T, int N>
__global__ void join_ranges_kernel(__grid_constant__ const RowSums<T> sums) {
  const int64_t range = blockIdx.x / sums.stripes, stripe = blockIdx.x % sums.stripes;
  const int64_t begin = range * kSumRange, end = begin + kSumRange;
  const int64_t column = (stripe * blockDim.x + threadIdx.x) * N;
  if (end >= sums.count || column >= sums.columns) return;
  const int64_t key = sums.key(end);
  if (key == sums.keys.entries || sums.key(end - 1) != key) return;
  if (begin > 0 && sums.key(begin - 1) == key) return;  // an earlier range has its start
  const int64_t last = (end_of_run(sums, end) - 1) / kSumRange;
  float total[N];
  const float* partial = sums.partial + column;
#pragma unroll
  for (int i = 0; i < N; ++i) total[i] = partial[(2 * range + 1) * sums.columns + i];
#pragma unroll 4
  for (int64_t r = range + 1; r <= last; ++r) {
#pragma unroll
    for (int i = 0; i < N; ++i) total[i] += partial[2 * r * sums.columns + i];
  }
  add_to_entry<N>(sums, key, column, total);
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T, int N>
void sum_rows(RowSums<T> sums, const Launch& launch) {
  const int64_t packs = sums.columns / N;
  unsigned threads = kWarp;
  while (threads < kSumThreads && threads < packs) threads += kWarp;
  sums.stripes = (packs + threads - 1) / threads;
  const dim3 grid = blocks_for(sums.stripes * sum_ranges(sums.count), 1);
  launch(sum_ranges_kernel<T, N>, grid, threads, 0, sums);
  launch(join_ranges_kernel<T, N>, grid, threads, 0, sums);
}

template <typename T>
void backward(const EmbeddingBackward& args, const PositionKeys& keys, const Launch& launch) {
  const int64_t count = args.dy.shape[0];
  auto* workspace = static_cast<int64_t*>(args.workspace);
  RowSums<T> sums;
  sums.keys = keys;
  sums.positions = sort_positions(keys, workspace, launch);
  sums.count = count;
  sums.columns = args.dy.shape[1];
  sums.dy = data_as<const T>(args.dy);
  sums.dy_stride = args.dy.strides[0];
  sums.dweight = data_as<T>(args.dweight);
  sums.dweight_stride = args.dweight.strides[0];
  sums.partial = reinterpret_cast<float*>(workspace + sort_workspace(count) / 8);
  sums.accumulate = args.accumulate;
  const bool packs = aligned_16(args.dy.data) && aligned_16(args.dweight.data) &&
                     aligned_16(sums.dy_stride, args.dy.dtype) &&
                     aligned_16(sums.dweight_stride, args.dy.dtype) &&
                     aligned_16(sums.columns, args.dy.dtype);
  if (packs) {
    sum_rows<T, kVectorLength<T>>(sums, launch);
  } else {
    sum_rows<T, 1>(sums, launch);
  }
}

}  // namespace

void embedding_forward(const EmbeddingForward& args, const Execution& on) {
  if (numel(args.y) == 0) return;
  const Launch launch("embedding", on, {&args.indices, &args.weight});
  switch (unit_of(args)) {
    case 16:
      return copy_rows<Packed<uint32_t, 4>>(args, launch);
    case 8:
    case 4:
      return copy_rows<uint32_t>(args, launch);
    case 2:
      return copy_rows<uint16_t>(args, launch);
    default:
      return copy_rows<uint8_t>(args, launch);
  }
}

void embedding_backward(const EmbeddingBackward& args, const Execution& on) {
  const Launch launch("embedding backward", on, {&args.indices, &args.dy, &args.dweight});
  if (!args.accumulate) {
    launch.zero(args.dweight.data,
                static_cast<size_t>(numel(args.dweight)) * item_size(args.dweight.dtype));
  }
  if (numel(args.dy) == 0 || args.dweight.shape[0] == 0) return;
  const PositionKeys keys{args.indices, args.dweight.shape[0], args.padding_index};
  dispatch_floating(args.dy.dtype,
                    [&](auto type) { backward<decltype(type)>(args, keys, launch); });
}

}  // namespace pymodel::PYMODEL_BACKEND
