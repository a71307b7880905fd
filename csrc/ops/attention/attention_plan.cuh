// Which block does what: its tile of rows, the sequences it belongs to and the columns that it
// sees.
//
// The kernels of one op look at scores from two sides. In most a row is a query and a column a key;
// where gradients of keys are summed, a row is a key and a column a query. What follows is written
// for rows and columns and serves both.
#pragma once

#include "ops/attention/attention.h"
#include "ops/attention/attention_tile.cuh"

namespace pymodel::PYMODEL_BACKEND {

template <typename Integer>
__device__ __forceinline__ Integer clamped(Integer x, Integer low, Integer high) {
  return x < low ? low : (x > high ? high : x);
}

// ---------------------------------------------------------------------------------------------
// Order of the blocks

struct Task {
  int batch, head, tile;
};

// Blocks start in the order of their number: the longest tiles of a causal mask come first, so that
// the short ones fill the gaps at the end, and heads come in sections whose keys and values stay in
// the second-level cache while all tiles of queries pass over them.
struct TaskOrder {
  int64_t tiles, heads, units;  // of a head; of a batch; of all batches
  int64_t section;              // heads at a time
  bool last_tile_first;

  __device__ __forceinline__ Task task(int64_t block) const {
    const int64_t begin = block / (tiles * section) * section;
    const int64_t here = units - begin < section ? units - begin : section;
    const int64_t rest = block - begin * tiles, unit = begin + rest % here;
    const int64_t tile = last_tile_first ? tiles - 1 - rest / here : rest / here;
    return {static_cast<int>(unit / heads), static_cast<int>(unit % heads), static_cast<int>(tile)};
  }
  unsigned blocks() const { return static_cast<unsigned>(tiles * units); }
};

// ---------------------------------------------------------------------------------------------
// Sequences

// Positions are 32-bit: a sequence has at most 2^30 of them, and windows are no wider.
struct Sequence {
  int64_t first;       // row of memory of position 0
  int length, extent;  // positions that are there, and with padding
};

__device__ __forceinline__ Sequence sequence_of(const AttentionSequence& from) {
  return {from.first, static_cast<int>(from.length), static_cast<int>(from.extent)};
}

// `count` positions of one head, as rows of memory.
template <typename T>
__device__ __forceinline__ Rows<T> rows_of(const TensorView& view, int64_t batch, int64_t head,
                                           const Sequence& sequence, int position, int count,
                                           bool aligned) {
  return rows_of<T>(view, batch, head, sequence.first + position, count, aligned);
}

// Element of lse, and of what is indexed like it, that belongs to position 0 of a head.
__device__ __forceinline__ int64_t start_of_lse(const TensorView& lse, int64_t batch, int64_t head,
                                                const Sequence& queries) {
  return batch * lse.strides[0] + head * lse.strides[1] + queries.first;
}

// ---------------------------------------------------------------------------------------------
// Masks

// Row r stands at column r + offset and sees `before` columns in front of it and `after` behind; a
// negative bound is none. Rows from `rows` on see nothing.
struct Band {
  int rows, columns;
  int offset;
  int before, after;

  __device__ __forceinline__ int from(int row) const {
    return before < 0 ? 0 : clamped(row + offset - before, 0, columns);
  }
  __device__ __forceinline__ int to(int row) const {
    return after < 0 ? columns : clamped(row + offset + after + 1, 0, columns);
  }
};

template <bool kRowsAreKeys>
__device__ __forceinline__ Band band_of(const AttentionInputs& args, int queries, int keys) {
  const int left = static_cast<int>(args.window_left), right = static_cast<int>(args.window_right);
  if (kRowsAreKeys) return {keys, queries, queries - keys, right, left};
  return {queries, keys, keys - queries, left, right};
}

// The tiles of columns that a tile of rows sees anything of: first to last - 1. Those from
// plain_first to plain_last - 1 it sees wholly, so that they need no mask. The others are visited
// in a loop of their own, before them.
struct TileWalk {
  int first, plain_first, plain_last, last;

  __device__ __forceinline__ int general() const { return plain_first - first + last - plain_last; }
  __device__ __forceinline__ int plain() const { return plain_last - plain_first; }
  __device__ __forceinline__ int general_tile(int n) const {
    const int in_front = plain_first - first;
    return n < in_front ? first + n : plain_last + n - in_front;
  }
  __device__ __forceinline__ int plain_tile(int n) const { return plain_first + n; }
};

// `plain_allowed` is false where bias or dropout concern every tile.
template <int kRows, int kColumns>
__device__ __forceinline__ TileWalk tile_walk(const Band& band, int first_row, bool plain_allowed) {
  TileWalk walk = {0, 0, 0, 0};
  if (first_row >= band.rows) return walk;
  const int last_row = (first_row + kRows < band.rows ? first_row + kRows : band.rows) - 1;
  const int begin = band.from(first_row), end = band.to(last_row);
  if (begin >= end) return walk;
  walk.first = begin / kColumns;
  walk.last = (end + kColumns - 1) / kColumns;
  walk.plain_first = (band.from(last_row) + kColumns - 1) / kColumns;
  walk.plain_last = band.to(first_row) / kColumns;
  if (!plain_allowed || walk.plain_first >= walk.plain_last) {
    walk.plain_first = walk.plain_last = walk.last;
  }
  return walk;
}

// Whether tiles that are seen wholly need nothing but an exponential.
__device__ __forceinline__ bool plain_tiles_allowed(const AttentionInputs& args) {
  // (The forward pass looks for the maximum of a plain tile before it scales.)
  return args.bias.data == nullptr && !args.dropout.active && args.scale > 0.0f;
}

// ---------------------------------------------------------------------------------------------
// Plans

// What all threads of a block know. It lies in shared memory, because the sums need the registers.
struct BlockPlan {
  Task task;  // its head is that of the rows
  Sequence rows, columns;
  Band band;
  TileWalk walk;
};

// All threads of the block make the plan together; those of a packed sequence may find no row.
template <bool kRowsAreKeys, int kRows, int kColumns>
__device__ __forceinline__ void make_plan(const AttentionInputs& args, const TaskOrder& order,
                                          BlockPlan* plan) {
  if (threadIdx.x == 0) {
    const Task task = order.task(blockIdx.x);
    const Sequence queries = sequence_of(attention_queries(args, task.batch));
    const Sequence keys = sequence_of(attention_keys(args, task.batch));
    const Band band = band_of<kRowsAreKeys>(args, queries.length, keys.length);
    const TileWalk walk =
        tile_walk<kRows, kColumns>(band, task.tile * kRows, plain_tiles_allowed(args));
    *plan = {task, kRowsAreKeys ? keys : queries, kRowsAreKeys ? queries : keys, band, walk};
  }
  __syncthreads();
}

}  // namespace pymodel::PYMODEL_BACKEND
