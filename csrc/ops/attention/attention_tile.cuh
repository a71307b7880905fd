// Tiles of rows in shared memory, and what a warp computes of them.
//
// A warp works on 16 * kRowTiles rows of a tile; what it computes of them stays in its registers as
// a Fragment, laid out as the accumulators of mma.sync: with group = lane / 4 and pair = lane % 4,
// at[r][c] holds rows 16 r + group (elements 0 and 1) and 16 r + group + 8 (elements 2 and 3), and
// of them columns 8 c + 2 pair and 8 c + 2 pair + 1.
#pragma once

#include "core/tensor_view.h"
#include "cuda/numeric.cuh"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr int kFragmentRows = 16;

template <int kRowTiles, int kColumns>
struct Fragment {
  static_assert(kColumns % 16 == 0, "tensor cores take 16 columns at a time");
  float at[kRowTiles][kColumns / 8][4] = {};
};

__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x % kWarp); }
__device__ __forceinline__ int group_of_lane() { return lane_of_thread() / 4; }
__device__ __forceinline__ int pair_of_lane() { return lane_of_thread() % 4; }

// Calls body(r, c, e) for the elements of a fragment that this thread holds.
template <int kRowTiles, int kColumns, typename Body>
__device__ __forceinline__ void for_each_element(const Body& body) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns / 8; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) body(r, c, e);
    }
  }
}

// The sum, or the maximum, over the four lanes that share a row.
template <typename Operation>
__device__ __forceinline__ float row_reduce(float value) {
  value = Operation::join(value, __shfl_xor_sync(kFullMask, value, 1));
  return Operation::join(value, __shfl_xor_sync(kFullMask, value, 2));
}

// ---------------------------------------------------------------------------------------------
// Shared memory

// Rows of kColumns elements in chunks of 16 bytes. The chunks of a row change places with the row's
// number, so that eight rows of one column, which ldmatrix reads at once, lie in different banks.
template <typename T, int kColumns>
struct SharedTile {
  static constexpr int kLength = kVectorLength<T>;  // elements of a chunk
  static constexpr int kChunks = kColumns / kLength;
  static_assert(kChunks % 4 == 0, "rows are whole multiples of 64 bytes");

  T* data;  // (rows, kColumns), aligned to 128 bytes

  __device__ __forceinline__ T* chunk(int row, int column_chunk) const {
    const int turn = kChunks % 8 == 0 ? row % 8 : row / 2 % 4;
    return data + (row * kChunks + (column_chunk ^ turn)) * kLength;
  }
  __device__ __forceinline__ T* element(int row, int column) const {
    return chunk(row, column / kLength) + column % kLength;
  }
};

// Hands out parts of a block's shared memory.
struct SharedArena {
  unsigned char* next;

  template <typename T, int kColumns>
  __device__ __forceinline__ SharedTile<T, kColumns> take(int rows) {
    const SharedTile<T, kColumns> tile = {reinterpret_cast<T*>(next)};
    next += static_cast<size_t>(rows) * kColumns * sizeof(T);
    return tile;
  }
};

// Some rows of one head in global memory.
template <typename T>
struct Rows {
  T* data;         // (count, columns), dense along the last dimension
  int64_t stride;  // between rows, in elements
  int count;
  int columns;
  bool aligned;  // every row starts and ends at a multiple of 16 bytes
};

__device__ __forceinline__ int columns_of(const TensorView& view) {
  return static_cast<int>(view.shape[3]);
}

template <typename T>
__device__ __forceinline__ Rows<T> rows_of(const TensorView& view, int64_t batch, int64_t head,
                                           int64_t first, int count, bool aligned) {
  T* const data = static_cast<T*>(view.data) + batch * view.strides[0] + first * view.strides[1] +
                  head * view.strides[2];
  return {data, view.strides[1], count, columns_of(view), aligned};
}

// Starts to fill a tile of kRows rows from global memory; what `from` does not have becomes zeros,
// which no product notices. Asynchronous where addresses allow it.
template <int kRows, int kThreads, typename T, int kColumns>
__device__ __forceinline__ void copy_rows(const SharedTile<T, kColumns>& tile,
                                          const Rows<const T>& from) {
  constexpr int kChunks = SharedTile<T, kColumns>::kChunks, kLength = kVectorLength<T>;
  if (from.aligned) {
#pragma unroll 1
    for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
      const int row = i / kChunks, column = i % kChunks * kLength;
      const bool valid = row < from.count && column < from.columns;
      const T* const source = valid ? from.data + row * from.stride + column : from.data;
      ptx::cp_async_16(tile.chunk(row, i % kChunks), source, valid);
    }
    return;
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < kRows * kColumns; i += kThreads) {
    const int row = i / kColumns, column = i % kColumns;
    const bool valid = row < from.count && column < from.columns;
    *tile.element(row, column) =
        valid ? from.data[row * from.stride + column] : from_float<T>(0.0f);
  }
}

// Writes `count` rows of a tile, from first_row on, as this warp left them there.
template <typename T, int kColumns>
__device__ __forceinline__ void write_rows(const SharedTile<T, kColumns>& tile, int first_row,
                                           const Rows<T>& to) {
  constexpr int kChunks = SharedTile<T, kColumns>::kChunks, kLength = kVectorLength<T>;
  __syncwarp();
  if (to.aligned) {
#pragma unroll 1
    for (int i = lane_of_thread(); i < to.count * kChunks; i += kWarp) {
      const int row = i / kChunks, column = i % kChunks * kLength;
      if (column >= to.columns) continue;
      store_packed(to.data + row * to.stride + column,
                   load_packed<kLength>(tile.chunk(first_row + row, i % kChunks)));
    }
    return;
  }
#pragma unroll 1
  for (int i = lane_of_thread(); i < to.count * to.columns; i += kWarp) {
    const int row = i / to.columns, column = i % to.columns;
    to.data[row * to.stride + column] = *tile.element(first_row + row, column);
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
