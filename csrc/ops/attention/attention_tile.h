// What the attention kernels share: which keys a tile of queries sees, float32 copies of rows, and
// the tile of scores.
//
// A tile of scores lies transposed: tile[key * kAttentionTile + query], so that queries fill the
// lanes of a vector. The softmax over the keys then runs lane by lane, with no sum across a vector,
// and the same tile serves every product as it is (cpu/tile_product.h): as B where the sum runs
// over keys into queries, and as A, plain or transposed, in the others.
#pragma once

#include "cpu/math.h"
#include "cpu/parallel.h"
#include "cpu/philox_lanes.h"
#include "cpu/tile_product.h"
#include "ops/attention/attention.h"

namespace pymodel::cpu::PYMODEL_ISA {

constexpr int64_t kTile = kAttentionTile;
// Inside a tile, work is skipped by groups of this many queries or keys (the height of a product),
// and lanes by the vectors of the widest instruction set.
constexpr int64_t kGroup = kProductRows;
constexpr int64_t kGroups = kTile / kGroup;
constexpr int64_t kLaneGroup = 16;
// Terms that scores and dP sum before they add the sum to the others: rounding errors grow with the
// length of a chain, and dP - D, a difference of large numbers, shows them.
constexpr int64_t kSumLength = 16;

PYMODEL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
PYMODEL_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
PYMODEL_INLINE int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return larger(low, smaller(x, high));
}
PYMODEL_INLINE int64_t round_up(int64_t count, int64_t multiple) {
  return attention_round_up(count, multiple);
}
PYMODEL_INLINE int64_t round_down(int64_t count, int64_t multiple) {
  return count / multiple * multiple;
}

// ---------------------------------------------------------------------------------------------
// Views and scratch memory

// The vector of element (batch, row of memory, head) of a (batch, rows, heads, columns) view.
template <typename T>
PYMODEL_INLINE T* vector_at(const TensorView& view, int64_t batch, int64_t row, int64_t head) {
  return data_as<T>(view) + batch * view.strides[0] + row * view.strides[1] +
         head * view.strides[2];
}

PYMODEL_INLINE float* lse_at(const TensorView& lse, int64_t batch, int64_t row, int64_t head) {
  return data_as<float>(lse) + batch * lse.strides[0] + head * lse.strides[1] + row;
}

// This thread's share of the scratch memory, `shared` floats after its start.
PYMODEL_INLINE float* thread_scratch(const AttentionInputs& args, int64_t floats, int64_t shared) {
  return static_cast<float*>(args.workspace) + round_up(shared, 16) +
         omp_get_thread_num() * round_up(floats, 16);
}

PYMODEL_INLINE float* take(float** next, int64_t count) {
  float* taken = *next;
  *next += count;
  return taken;
}

// Copies rows times `factor` to float32 rows of length ld, a whole number of vectors. Columns up to
// the next vector and rows up to padded_rows become zeros.
template <typename T>
static void load_rows(const T* from, int64_t stride, int64_t rows, int64_t columns, float factor,
                      float* to, int64_t ld, int64_t padded_rows) {
  for (int64_t i = 0; i < rows; ++i) {
    for_each_vector(columns, [&](int64_t j, int64_t n) {
      store(to + i * ld + j, load_lanes(from + i * stride + j, n) * factor);
    });
  }
  if (padded_rows > rows) {
    memset(to + rows * ld, 0, static_cast<size_t>((padded_rows - rows) * ld) * sizeof(float));
  }
}

// The way back, adding nothing.
template <typename T>
static void store_rows(const float* from, int64_t ld, int64_t rows, int64_t columns, float factor,
                       T* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for_each_vector(columns, [&](int64_t j, int64_t n) {
      store_lanes(to + i * stride + j, load(from + i * ld + j) * factor, n);
    });
  }
}

template <typename T>
static void zero_rows(T* to, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    memset(to + i * stride, 0, static_cast<size_t>(columns) * sizeof(T));
  }
}

// ---------------------------------------------------------------------------------------------
// Who sees whom

struct QueryTile {
  int64_t batch, head;
  int64_t first, count;        // queries first to first + count - 1
  int64_t memory;              // row of memory of the first
  int64_t lanes;               // count rounded up to kLaneGroup
  int64_t key_begin, key_end;  // all keys that any of them sees, to whole groups
  // Query first + i sees keys seen_from[i] to seen_to[i] - 1. Both rise with i; lanes beyond the
  // last query repeat it.
  int32_t seen_from[kTile], seen_to[kTile];
};

PYMODEL_INLINE void set_queries(const AttentionInputs& args, int64_t batch, int64_t head,
                                int64_t first, const AttentionSequence& sequence, int64_t keys,
                                QueryTile* tile) {
  const int64_t queries = sequence.length;
  tile->batch = batch;
  tile->head = head;
  tile->first = first;
  tile->memory = sequence.first + first;
  tile->count = smaller(kTile, queries - first);
  tile->lanes = round_up(tile->count, kLaneGroup);
  for (int64_t i = 0; i < tile->lanes; ++i) {
    const int64_t position = first + smaller(i, tile->count - 1) + keys - queries;
    const int64_t from = args.window_left < 0 ? 0 : position - args.window_left;
    const int64_t to = args.window_right < 0 ? keys : position + args.window_right + 1;
    tile->seen_from[i] = static_cast<int32_t>(clamp(from, 0, keys));
    tile->seen_to[i] = static_cast<int32_t>(clamp(to, tile->seen_from[i], keys));
  }
  tile->key_begin = round_down(tile->seen_from[0], kGroup);
  tile->key_end = round_up(tile->seen_to[tile->count - 1], kGroup);
}

// The part of a tile of scores that is worked on, a superset of what is seen.
struct TileRegion {
  int64_t first_key, keys;  // keys first_key to first_key + keys - 1, whole groups
  bool masked;              // some of the region is not seen
  int64_t lane_begin[kGroups], lane_end[kGroups];  // of each group of keys
  int64_t key_begin[kGroups], key_end[kGroups];    // of each group of queries, from first_key
};

PYMODEL_INLINE void set_region(const QueryTile& queries, int64_t first_key, int64_t keys,
                               TileRegion* region) {
  region->first_key = first_key;
  region->keys = keys;
  region->masked =
      first_key < queries.seen_from[queries.count - 1] || first_key + keys > queries.seen_to[0];
  // Counts of the queries that see nothing before the group, and of those that see something of it
  // or before: as both bounds rise with the query, the ones between are those that see the group.
  int64_t done = 0, started = 0;
  for (int64_t group = 0; group * kGroup < keys; ++group) {
    const int64_t begin = first_key + group * kGroup;
    while (done < queries.count && queries.seen_to[done] <= begin) ++done;
    while (started < queries.count && queries.seen_from[started] < begin + kGroup) ++started;
    region->lane_begin[group] = round_down(done, kLaneGroup);
    region->lane_end[group] = round_up(started, kLaneGroup);
  }
  for (int64_t group = 0; group * kGroup < queries.lanes; ++group) {
    const int64_t last = smaller((group + 1) * kGroup, queries.lanes) - 1;
    const int64_t from = queries.seen_from[group * kGroup] - first_key;
    const int64_t to = queries.seen_to[last] - first_key;
    region->key_begin[group] = round_down(clamp(from, 0, keys), kGroup);
    region->key_end[group] = round_up(clamp(to, 0, keys), kGroup);
  }
}

PYMODEL_INLINE IntVec load_integers(const int32_t* p) {
  IntVec v;
  memcpy(&v, p, sizeof v);
  return v;
}

// Whether the queries of one vector of lanes see a key; keys count from the tile's first.
struct LaneSight {
  IntVec from, to;
};
PYMODEL_INLINE LaneSight lane_sight(const QueryTile& queries, int64_t lane, int64_t first_key) {
  const int32_t origin = static_cast<int32_t>(first_key);
  return {load_integers(queries.seen_from + lane) - origin,
          load_integers(queries.seen_to + lane) - origin};
}
PYMODEL_INLINE IntVec sees(const LaneSight& sight, int64_t key) {
  const IntVec k = IntVec{} + static_cast<int32_t>(key);
  return (sight.from <= k) & (sight.to > k);
}

// Calls body(offset in the tile, key in the tile) along the keys of one vector of lanes.
template <typename Body>
PYMODEL_INLINE void for_each_key(const TileRegion& region, int64_t lane, const Body& body) {
  for (int64_t group = 0; group * kGroup < region.keys; ++group) {
    if (lane < region.lane_begin[group] || lane >= region.lane_end[group]) continue;
#pragma GCC unroll 8
    for (int64_t i = 0; i < kGroup; ++i) {
      const int64_t key = group * kGroup + i;
      body(key * kTile + lane, key);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Tiles

// tile = rows of keys (row length ld, from the region's first key) times columns (depth, kTile).
PYMODEL_INLINE void product_with_keys(const TileRegion& region, const float* keys, int64_t ld,
                                      int64_t depth, const float* columns, float* tile) {
  for (int64_t group = 0; group * kGroup < region.keys; ++group) {
    const int64_t begin = region.lane_begin[group], end = region.lane_end[group];
    if (begin >= end) continue;
    for (int64_t k = 0; k < depth; k += kSumLength) {
      tile_product<false>(smaller(kSumLength, depth - k), end - begin,
                          keys + group * kGroup * ld + k, ld, columns + k * kTile + begin, kTile,
                          tile + group * kGroup * kTile + begin, kTile, k > 0);
    }
  }
}

// out (queries, columns; row length ld) = or += tile^T times rows of keys (row length ld).
PYMODEL_INLINE void product_over_keys(const QueryTile& queries, const TileRegion& region,
                                      const float* tile, const float* keys, int64_t ld,
                                      int64_t columns, float* out, bool accumulate) {
  for (int64_t group = 0; group * kGroup < queries.count; ++group) {
    const int64_t begin = region.key_begin[group];
    const int64_t depth = larger(0, region.key_end[group] - begin);
    if (depth == 0 && accumulate) continue;
    tile_product<true>(depth, round_up(columns, kLanes), tile + begin * kTile + group * kGroup,
                       kTile, keys + begin * ld, ld, out + group * kGroup * ld, ld, accumulate);
  }
}

// sums (keys, columns; row length ld) += tile times rows of queries (row length ld).
PYMODEL_INLINE void product_over_queries(const TileRegion& region, const float* tile,
                                         const float* queries, int64_t ld, int64_t columns,
                                         float* sums) {
  for (int64_t group = 0; group * kGroup < region.keys; ++group) {
    const int64_t begin = region.lane_begin[group], end = region.lane_end[group];
    if (begin >= end) continue;
    tile_product<false>(end - begin, round_up(columns, kLanes),
                        tile + group * kGroup * kTile + begin, kTile, queries + begin * ld, ld,
                        sums + group * kGroup * ld, ld, true);
  }
}

// Adds the bias to the scores; staging and transposed are (kTile, kTile).
template <typename T>
static void add_bias(const AttentionInputs& args, const QueryTile& queries,
                     const TileRegion& region, float* staging, float* transposed, float* scores) {
  const int64_t* strides = args.bias.strides;
  const int64_t start = queries.batch * strides[0] + queries.head * strides[1] +
                        queries.first * strides[2] + region.first_key;
  const int64_t keys = smaller(region.keys, args.bias.shape[3] - region.first_key);
  if (args.bias.dtype == DType::float32) {
    load_rows(data_as<float>(args.bias) + start, strides[2], queries.count, keys, 1.0f, staging,
              kTile, queries.lanes);
  } else {
    load_rows(data_as<T>(args.bias) + start, strides[2], queries.count, keys, 1.0f, staging, kTile,
              queries.lanes);
  }
  transpose_tile(staging, kTile, queries.lanes, round_up(keys, kLanes), transposed, kTile);
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    for_each_key(region, lane, [&](int64_t at, int64_t) {
      store(scores + at, load(scores + at) + load(transposed + at));
    });
  }
}

// What dropout multiplies each element of the tile by: 0 or the factor of those that stay.
static void fill_keep(const AttentionInputs& args, const QueryTile& queries,
                      const TileRegion& region, float* keep) {
  const AttentionDropout& dropout = args.dropout;
  const uint64_t blocks = attention_dropout_index(1, 0, static_cast<uint64_t>(args.k.shape[1])) / 4;
  const uint64_t row = static_cast<uint64_t>(
      (queries.batch * args.q.shape[2] + queries.head) * args.q.shape[1] + queries.first);
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    WordVec low = {}, high = {};
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t counter = (row + static_cast<uint64_t>(lane + i)) * blocks +
                               static_cast<uint64_t>(region.first_key) / 4;
      low[i] = static_cast<uint32_t>(counter);
      high[i] = static_cast<uint32_t>(counter >> 32);
    }
    for (int64_t key = 0; key < region.keys; key += 4) {
      PhiloxLanes counters = {};
      counters.word[0] = low + static_cast<uint32_t>(key / 4);
      counters.word[1] = high + (reinterpret_cast<WordVec>(counters.word[0] < low) & 1u);
      counters.word[2] += static_cast<uint32_t>(dropout.offset);
      counters.word[3] += static_cast<uint32_t>(dropout.offset >> 32);
      const PhiloxLanes words = philox_of_counters(dropout.seed, counters);
      for (int w = 0; w < 4; ++w) {
        const IntVec kept = reinterpret_cast<IntVec>(words.word[w] < dropout.threshold);
        store(keep + (key + w) * kTile + lane, select(kept, broadcast(dropout.factor), zero()));
      }
    }
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
