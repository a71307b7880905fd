// CUDA fill and copy. A copy that turns rows into columns goes through tiles in shared memory, so
// that reads and writes both run along memory; all others are maps over slots.
#include <cstring>

#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/map.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Device helpers

// Truncates; NaN becomes 0, and what int64 cannot hold its nearest limit.
__device__ __forceinline__ int64_t to_integer(float value) {
  if (!(value == value)) return 0;
  if (value >= 0x1p63f) return INT64_MAX;
  if (value < -0x1p63f) return INT64_MIN;
  return static_cast<int64_t>(value);
}

__device__ __forceinline__ float convert_to(float value, float) { return value; }
__device__ __forceinline__ float convert_to(int64_t value, float) {
  return static_cast<float>(value);
}
__device__ __forceinline__ int64_t convert_to(float value, int64_t) { return to_integer(value); }
__device__ __forceinline__ int64_t convert_to(int64_t value, int64_t) { return value; }

// ---------------------------------------------------------------------------------------------
// Kernels: functions of map_kernel over the views out and x, and the tiled copy

// Number is float for floating types and int64_t for the others.
template <typename T, typename Number>
struct FillFunction {
  static constexpr int kWidth = kVectorLength<T>;
  Number number;

  template <int width>
  __device__ __forceinline__ void run(const Place<1>& place, const bool*) const {
    Number values[width];
#pragma unroll
    for (int i = 0; i < width; ++i) values[i] = number;
    store_as<T>(place.at[0], place.count, values);
  }
};

template <typename T>
struct CopyFunction {
  static constexpr int kWidth = kVectorLength<T>;

  template <int width>
  __device__ __forceinline__ void run(const Place<2>& place, const bool* repeats) const {
    T values[width];
    load_slot(place.at[1], repeats[1], place.count, values);
    store_slot(place.at[0], place.count, values);
  }
};

// Wide types: float where a side is of a floating type, else int64_t. The types themselves are
// known at run time; a branch per slot costs nothing beside the memory that it moves.
template <typename From, typename To>
struct ConvertFunction {
  static constexpr int kWidth = 4;
  DType from, to;

  template <int width>
  __device__ __forceinline__ void run(const Place<2>& place, const bool* repeats) const {
    From values[width];
    To results[width];
    load_any(from, place.at[1], repeats[1], place.count, values);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      results[i] = to == DType::boolean ? To(values[i] != From(0)) : convert_to(values[i], To{});
    }
    store_any(to, place.at[0], place.count, results);
  }
};

constexpr int kTileRows = 8;  // warps of a block; each moves every eighth row of a tile

// Rows of 128 bytes at most and 32 elements at least.
template <typename T>
constexpr int kTile = sizeof(T) <= 2 ? 64 : 32;

// Matrices (rows, columns) of T: `out` (view 0) is dense along columns, the innermost dimension of
// `loop`, and x (view 1) along rows, the next; all dimensions further out count matrices. A block
// moves one tile.
template <typename T>
__global__ void __launch_bounds__(32 * kTileRows)
    transpose_kernel(const StridedLoop<2> loop, int64_t row_tiles, int64_t column_tiles) {
  // The odd word in each row spreads a column over all banks.
  constexpr int kPitch = kTile<T> + (sizeof(T) < 4 ? 4 / static_cast<int>(sizeof(T)) : 1);
  __shared__ T tile[kTile<T> * kPitch];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int column_dim = loop.ndim - 1, row_dim = loop.ndim - 2;
  int64_t matrix = blockIdx.x / (row_tiles * column_tiles);
  const int64_t row = blockIdx.x / column_tiles % row_tiles * kTile<T>;
  const int64_t column = blockIdx.x % column_tiles * kTile<T>;
  char* out = loop.data[0] + row * loop.strides[0][row_dim];
  const char* x = loop.data[1] + column * loop.strides[1][column_dim];
  for (int d = row_dim - 1; d >= 0; --d) {
    const int64_t index = matrix % loop.shape[d];
    matrix /= loop.shape[d];
    out += index * loop.strides[0][d];
    x += index * loop.strides[1][d];
  }
  const int64_t rows = loop.shape[row_dim] - row, columns = loop.shape[column_dim] - column;
  // All of a thread's reads are under way before the first of its writes.
  T held[kTile<T> / kTileRows][kTile<T> / 32];
#pragma unroll
  for (int k = 0; k < kTile<T> / kTileRows; ++k) {
    const int c = warp + k * kTileRows;
    const T* from = reinterpret_cast<const T*>(x + c * loop.strides[1][column_dim]) + row;
#pragma unroll
    for (int j = 0; j < kTile<T> / 32; ++j) {
      const int r = lane + 32 * j;
      held[k][j] = c < columns && r < rows ? from[r] : T{};
    }
  }
#pragma unroll
  for (int k = 0; k < kTile<T> / kTileRows; ++k) {
#pragma unroll
    for (int j = 0; j < kTile<T> / 32; ++j) {
      tile[(warp + k * kTileRows) * kPitch + lane + 32 * j] = held[k][j];
    }
  }
  __syncthreads();
  for (int r = warp; r < kTile<T> && r < rows; r += kTileRows) {
    T* to = reinterpret_cast<T*>(out + r * loop.strides[0][row_dim]) + column;
    for (int c = lane; c < kTile<T> && c < columns; c += 32) to[c] = tile[c * kPitch + r];
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

// Calls body with a zero of the unsigned type that has this many bytes: copies do not look inside.
template <typename Body>
void dispatch_item_size(DType dtype, const Body& body) {
  switch (item_size(dtype)) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

// Matrices narrower than this lie within few sectors of memory, whichever way they are read.
constexpr int64_t kLeastSide = 8;

template <typename T>
void copy_transposed(const Launch& launch, const StridedLoop<2>& loop) {
  const int64_t rows = loop.shape[loop.ndim - 2], columns = loop.inner();
  const int64_t row_tiles = (rows + kTile<T> - 1) / kTile<T>;
  const int64_t column_tiles = (columns + kTile<T> - 1) / kTile<T>;
  const int64_t matrices = loop.rows() / rows;
  launch(transpose_kernel<T>, static_cast<unsigned>(matrices * row_tiles * column_tiles),
         32 * kTileRows, 0, loop, row_tiles, column_tiles);
}

}  // namespace

void fill(const FillArguments& args, const Execution& on) {
  const Launch launch("fill", on, {&args.out});
  const TensorView* const views[] = {&args.out};
  if (is_floating(args.out.dtype)) {
    return dispatch_floating(args.out.dtype, [&](auto type) {
      const auto number = static_cast<float>(args.value.real);
      map_elements(launch, views, FillFunction<decltype(type), float>{number});
    });
  }
  dispatch_item_size(args.out.dtype, [&](auto zero) {
    map_elements(launch, views, FillFunction<decltype(zero), int64_t>{args.value.integer});
  });
}

void copy(const CopyArguments& args, const Execution& on) {
  const Launch launch("copy", on, {&args.x, &args.out});
  const TensorView* const views[] = {&args.out, &args.x};
  const DType from = args.x.dtype, to = args.out.dtype;
  if (from != to) {
    if (is_floating(from) && is_floating(to)) {
      return map_elements(launch, views, ConvertFunction<float, float>{from, to});
    }
    if (is_floating(from)) {
      return map_elements(launch, views, ConvertFunction<float, int64_t>{from, to});
    }
    if (is_floating(to)) {
      return map_elements(launch, views, ConvertFunction<int64_t, float>{from, to});
    }
    return map_elements(launch, views, ConvertFunction<int64_t, int64_t>{from, to});
  }
  StridedLoop<2> loop = make_loop<2>(views);
  if (loop.rows() * loop.inner() == 0) return;
  const bool transposed = find_transpose(&loop, static_cast<int64_t>(item_size(from))) &&
                          loop.inner() >= kLeastSide && loop.shape[loop.ndim - 2] >= kLeastSide;
  dispatch_item_size(from, [&](auto zero) {
    using T = decltype(zero);
    if (transposed) return copy_transposed<T>(launch, loop);
    map_elements(launch, views, CopyFunction<T>{});
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
