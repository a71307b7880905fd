// Positions of indices, ordered by index and then by position: a stable radix sort over bytes that
// runs entirely on the device. Each pass counts the digits of every tile, turns the counts into
// places by a prefix sum, and moves the positions there.
//
// Source: Satish, Harris and Garland, "Designing efficient sorting algorithms for manycore GPUs",
// IPDPS 2009.
#pragma once

#include "core/integers.h"
#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "ops/embedding/embedding.h"

namespace pymodel::PYMODEL_BACKEND {

constexpr int kDigits = 256;
constexpr int kSortThreads = 256;  // one for each digit
constexpr int kSortWarps = kSortThreads / kWarp;
constexpr int kScanThreads = 1024;
constexpr int kRounds = kSortTile / kSortThreads;  // positions for each thread

static_assert(kSortThreads == kDigits, "a thread looks after a digit");

// What positions are sorted by: their index, or `entries`, which is no entry, for those that have
// no part in the gradient.
struct PositionKeys {
  TensorView indices;  // (count)
  int64_t entries;
  int64_t padding_index;

  __device__ __forceinline__ int64_t operator()(int64_t position) const {
    const int64_t index = integer_at(indices, position);
    return index < 0 || index >= entries || index == padding_index ? entries : index;
  }
};

// A pass of the sort.
struct SortPass {
  PositionKeys keys;
  const int64_t* from;  // (count) positions in the order so far; null: their natural order
  int64_t* to;          // (count)
  int64_t* places;      // (kDigits, tiles): counts of digits, then where they go
  int64_t count, tiles;
  int shift;  // the digit: bits shift to shift + 7 of the key

  __device__ __forceinline__ int64_t position(int64_t i) const {
    return from == nullptr ? i : from[i];
  }
  __device__ __forceinline__ int digit(int64_t position) const {
    return static_cast<int>(keys(position) >> shift & (kDigits - 1));
  }
};

// ---------------------------------------------------------------------------------------------
// Kernels

// Blocks of kSortThreads, a tile each.
static __global__ void count_digits_kernel(__grid_constant__ const SortPass pass) {
  __shared__ int counts[kDigits];
  counts[threadIdx.x] = 0;
  __syncthreads();
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = int64_t{blockIdx.x} * kSortTile + round * kSortThreads + threadIdx.x;
    if (i < pass.count) atomicAdd(&counts[pass.digit(pass.position(i))], 1);
  }
  __syncthreads();
  pass.places[threadIdx.x * pass.tiles + blockIdx.x] = counts[threadIdx.x];
}

// Replaces every number by the sum of those before it; one block.
static __global__ void exclusive_sum_kernel(int64_t* numbers, int64_t count) {
  __shared__ int64_t warp_totals[kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int64_t carry = 0;
  for (int64_t start = 0; start < count; start += blockDim.x) {
    const int64_t i = start + threadIdx.x;
    const int64_t own = i < count ? numbers[i] : 0;
    int64_t sum = own;  // of the warp's lanes up to this one
    for (int step = 1; step < kWarp; step *= 2) {
      const int64_t before = __shfl_up_sync(kFullMask, sum, step);
      if (lane >= step) sum += before;
    }
    __syncthreads();  // the totals of the last round may still be being read
    if (lane == kWarp - 1) warp_totals[warp] = sum;
    __syncthreads();
    const bool exists = lane < static_cast<int>(blockDim.x) / kWarp;
    const int64_t total = exists ? warp_totals[lane] : 0;
    const int64_t before = carry + warp_sum(lane < warp ? total : 0);
    if (i < count) numbers[i] = before + sum - own;
    carry += warp_sum(total);
  }
}

// Blocks of kSortThreads, a tile each; each warp takes neighbouring positions, in order, so that
// equal digits keep their order.
static __global__ void move_positions_kernel(__grid_constant__ const SortPass pass) {
  __shared__ int64_t places[kDigits];           // where the tile's first position of a digit goes
  __shared__ int offsets[kSortWarps][kDigits];  // of a warp's next one from there
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  places[threadIdx.x] = pass.places[threadIdx.x * pass.tiles + blockIdx.x];
  for (int i = 0; i < kSortWarps; ++i) offsets[i][threadIdx.x] = 0;
  __syncthreads();

  const int64_t first = int64_t{blockIdx.x} * kSortTile + warp * kRounds * kWarp + lane;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = first + round * kWarp;
    if (i < pass.count) atomicAdd(&offsets[warp][pass.digit(pass.position(i))], 1);
  }
  __syncthreads();
  int offset = 0;
  for (int i = 0; i < kSortWarps; ++i) {
    const int count = offsets[i][threadIdx.x];
    offsets[i][threadIdx.x] = offset;
    offset += count;
  }
  __syncthreads();

  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = first + round * kWarp;
    const bool inside = i < pass.count;
    const int64_t position = inside ? pass.position(i) : 0;
    const int digit = inside ? pass.digit(position) : kDigits;  // a digit that none has
    const unsigned equals = __match_any_sync(kFullMask, digit);
    const int rank = __popc(equals & ((1u << lane) - 1));
    if (inside) pass.to[places[digit] + offsets[warp][digit] + rank] = position;
    __syncwarp();
    if (inside && rank == 0) offsets[warp][digit] += __popc(equals);
    __syncwarp();
  }
}

// ---------------------------------------------------------------------------------------------
// Launcher

// Returns the sorted positions, one of the two orders (count) that the workspace holds first; the
// counts of digits follow them.
inline const int64_t* sort_positions(const PositionKeys& keys, int64_t* workspace,
                                     const Launch& launch) {
  const int64_t count = keys.indices.shape[0], tiles = sort_tiles(count);
  const int64_t places = kDigits * tiles;
  SortPass pass{keys, nullptr, workspace, workspace + 2 * count, count, tiles, 0};
  const dim3 grid = static_cast<unsigned>(tiles);
  for (; keys.entries >> pass.shift > 0; pass.shift += 8) {
    launch(count_digits_kernel, grid, kSortThreads, 0, pass);
    launch(exclusive_sum_kernel, 1, places < kScanThreads ? kSortThreads : kScanThreads, 0,
           pass.places, places);
    launch(move_positions_kernel, grid, kSortThreads, 0, pass);
    pass.from = pass.to;
    pass.to = pass.to == workspace ? workspace + count : workspace;
  }
  return pass.from;
}

}  // namespace pymodel::PYMODEL_BACKEND
