// Who sees whom: a tile of queries, and the part of a tile of scores that has to be worked on.
#pragma once

#include "cpu/simd.h"
#include "ops/attention/attention.h"

namespace pymodel::cpu::PYMODEL_ISA {

constexpr int64_t kTile = kAttentionTile;
// Inside a tile, work is skipped by groups of this many keys and of as many queries, the lanes of
// the widest instruction set. Sums over keys are cut by blocks of two such groups of lanes, as one
// alone would wait for its own sums.
constexpr int64_t kGroup = 16;
constexpr int64_t kGroups = kTile / kGroup;
constexpr int64_t kLaneBlock = 2 * kGroup;
constexpr int64_t kLaneBlocks = kTile / kLaneBlock;

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

struct QueryTile {
  int64_t batch, head;
  int64_t first, count;        // queries first to first + count - 1
  int64_t memory;              // row of memory of the first
  int64_t lanes;               // count rounded up to kGroup
  int64_t key_begin, key_end;  // all keys that any of them sees, from a whole tile to a whole group
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
  tile->lanes = round_up(tile->count, kGroup);
  for (int64_t i = 0; i < tile->lanes; ++i) {
    const int64_t position = first + smaller(i, tile->count - 1) + keys - queries;
    const int64_t from = args.window_left < 0 ? 0 : position - args.window_left;
    const int64_t to = args.window_right < 0 ? keys : position + args.window_right + 1;
    tile->seen_from[i] = static_cast<int32_t>(clamp(from, 0, keys));
    tile->seen_to[i] = static_cast<int32_t>(clamp(to, tile->seen_from[i], keys));
  }
  tile->key_begin = round_down(tile->seen_from[0], kTile);
  tile->key_end = round_up(tile->seen_to[tile->count - 1], kGroup);
}

// The part of a tile of scores that is worked on, a superset of what is seen.
struct TileRegion {
  int64_t first_key, keys;  // keys first_key to first_key + keys - 1, whole groups
  bool masked;              // some of the region is not seen
  bool partial;             // some of the whole tile is not worked on
  int64_t lane_begin[kGroups], lane_end[kGroups];        // of each group of keys
  int64_t key_begin[kLaneBlocks], key_end[kLaneBlocks];  // of each block of lanes, from first_key
};

PYMODEL_INLINE void set_region(const QueryTile& queries, int64_t first_key, int64_t keys,
                               TileRegion* region) {
  region->first_key = first_key;
  region->keys = keys;
  region->masked =
      first_key < queries.seen_from[queries.count - 1] || first_key + keys > queries.seen_to[0];
  region->partial = region->masked || keys < kTile || queries.lanes < kTile;
  // Counts of the queries that see nothing before the group, and of those that see something of it
  // or before: as both bounds rise with the query, the ones between are those that see the group.
  int64_t done = 0, started = 0;
  for (int64_t group = 0; group * kGroup < keys; ++group) {
    const int64_t begin = first_key + group * kGroup;
    while (done < queries.count && queries.seen_to[done] <= begin) ++done;
    while (started < queries.count && queries.seen_from[started] < begin + kGroup) ++started;
    region->lane_begin[group] = round_down(done, kGroup);
    region->lane_end[group] = round_up(started, kGroup);
  }
  for (int64_t block = 0; block * kLaneBlock < queries.lanes; ++block) {
    const int64_t last = smaller((block + 1) * kLaneBlock, queries.lanes) - 1;
    const int64_t from = queries.seen_from[block * kLaneBlock] - first_key;
    const int64_t to = queries.seen_to[last] - first_key;
    region->key_begin[block] = round_down(clamp(from, 0, keys), kGroup);
    region->key_end[block] = round_up(clamp(to, 0, keys), kGroup);
  }
}

// Groups of keys from `group` on that are worked on in the same lanes, and so in one product.
PYMODEL_INLINE int64_t groups_alike(const TileRegion& region, int64_t group) {
  int64_t next = group + 1;
  while (next * kGroup < region.keys && region.lane_begin[next] == region.lane_begin[group] &&
         region.lane_end[next] == region.lane_end[group]) {
    ++next;
  }
  return next - group;
}

// Calls body(first key, keys, first lane, lanes) for all that is worked on.
template <typename Body>
PYMODEL_INLINE void for_each_part(const TileRegion& region, const Body& body) {
  int64_t alike = 0;
  for (int64_t group = 0; group * kGroup < region.keys; group += alike) {
    alike = groups_alike(region, group);
    const int64_t begin = region.lane_begin[group], end = region.lane_end[group];
    if (begin < end) body(group * kGroup, alike * kGroup, begin, end - begin);
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

// Calls body(key in the tile) for every second key of one vector of lanes: the body takes two.
template <typename Body>
PYMODEL_INLINE void for_each_pair(const TileRegion& region, int64_t lane, const Body& body) {
  for (int64_t group = 0; group * kGroup < region.keys; ++group) {
    if (lane < region.lane_begin[group] || lane >= region.lane_end[group]) continue;
#pragma GCC unroll 8
    for (int64_t i = 0; i < kGroup; i += 2) body(group * kGroup + i);
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
