// Forward attention of a few queries against many keys, as in decoding. Reading the keys and values
// is most of the work: each is read once, where it lies, for all query heads that share it, and
// fetched ahead, as the rows of one head lie too far apart for the hardware to foresee.
//
// Ranges of keys are tasks of their own, whose results are joined in their order. Scores are summed
// in another order than backward sums them: exp(score - lse) would be off by a rounding error of
// the score, so this is for calls that are not recorded.
//
// Source: Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference",
// https://crfm.stanford.edu/2023/10/12/flashdecoding.html.
#pragma once

#include "ops/attention/attention_tile.h"

namespace pymodel::cpu::PYMODEL_ISA {

// What a query has gathered from the keys of a range.
struct QueryState {
  float* sums;  // (padded dv): the output times `total`
  float* maximum;
  float* total;  // sum of exp(score - maximum)
};

PYMODEL_INLINE QueryState query_state(const AttentionForward& args, int64_t range, int64_t batch,
                                      int64_t head, int64_t query) {
  const int64_t unit = (range * args.q.shape[0] + batch) * args.q.shape[2] + head;
  float* state = static_cast<float*>(args.workspace) +
                 (unit * args.q.shape[1] + query) * attention_state_floats(args);
  float* end = state + attention_padded(args.v.shape[3]);
  return {state, end, end + 1};
}

// Some keys and values of one head, and the keys that come after them.
template <typename T>
struct KeyRows {
  const T* keys;    // (count, d), rows `key_stride` apart
  const T* values;  // (count, dv), rows `value_stride` apart
  int64_t key_stride, value_stride;
  int64_t d, dv;
  int64_t count;  // at most kTile
  int64_t ahead;  // how many rows further on lies the key that is fetched; 0 at the end
};

// scores (kTile) of the rows' keys, -inf beyond the last one; `query` (padded d) is float32.
// Returns their maximum.
template <typename T>
static float few_scores(const KeyRows<T>& rows, const float* query, float scale, float* scores) {
  Vec best = -infinity();
  for (int64_t first = 0; first < rows.count; first += kLanes) {
    Vec block[kLanes];  // of each key its products, to be summed across
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t row = smaller(first + lane, rows.count - 1);
      const T* key = rows.keys + row * rows.key_stride;
      const T* value = rows.values + row * rows.value_stride;
      Vec dot = zero();
      for_each_vector(rows.d, [&](int64_t i, int64_t n) {
        __builtin_prefetch(value + smaller(i, rows.dv - 1));
        dot = fma(load_lanes(key + i, n), load(query + i), dot);
      });
      block[lane] = dot;
    }
    transpose(block);
#pragma GCC unroll 4
    for (int step = kLanes / 2; step > 0; step /= 2) {
#pragma GCC unroll 8
      for (int i = 0; i < step; ++i) block[i] += block[i + step];
    }
    const IntVec held = lane_numbers() < static_cast<int32_t>(rows.count - first);
    const Vec score = select(held, block[0] * scale, -infinity());
    store(scores + first, score);
    best = max(best, score);
  }
  return max_lane(best);
}

// Of `vecs` vectors of columns from `column` on, with so many lanes in use:
// sums (padded dv) = sums * fading + weights (count) times the rows' values.
template <int vecs, typename T>
PYMODEL_INLINE void add_values(const KeyRows<T>& rows, const float* weights, int64_t column,
                               int64_t lanes, float fading, float* sums) {
  Vec totals[vecs];
#pragma GCC unroll 4
  for (int v = 0; v < vecs; ++v) totals[v] = load(sums + column + v * kLanes) * fading;
  for (int64_t row = 0; row < rows.count; ++row) {
    const T* value = rows.values + row * rows.value_stride + column;
    const T* next_key = rows.keys + (row + rows.ahead) * rows.key_stride;
    const Vec weight = broadcast(weights[row]);
#pragma GCC unroll 4
    for (int v = 0; v < vecs; ++v) {
      __builtin_prefetch(next_key + smaller(column + v * kLanes, rows.d - 1));
      totals[v] = fma(weight, load_lanes(value + v * kLanes, lanes), totals[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vecs; ++v) store(sums + column + v * kLanes, totals[v]);
}

// Takes the rows into the state of one query.
template <typename T>
static void add_keys(const KeyRows<T>& rows, const float* query, float scale,
                     const QueryState& state) {
  float weights[kTile];
  const float before = *state.maximum, most = few_scores(rows, query, scale, weights);
  const float after = most > before ? most : before;
  // Without a finite score yet, -inf - 0 gives 0 where -inf - -inf would be NaN.
  const float shift = after == -__builtin_inff() ? 0.0f : after;
  const float fading = exp_bounded(broadcast(before - shift))[0];
  Vec total = zero();
  for (int64_t i = 0; i < rows.count; i += kLanes) {
    const Vec weight = exp_bounded(load(weights + i) - shift);
    store(weights + i, weight);
    total += weight;
  }
  *state.maximum = after;
  *state.total = *state.total * fading + sum(total);
  int64_t j = 0;
  for (; j + kBlockVecs * kLanes <= rows.dv; j += kBlockVecs * kLanes) {
    add_values<kBlockVecs>(rows, weights, j, kLanes, fading, state.sums);
  }
  for (; j < rows.dv; j += kLanes) {
    add_values<1>(rows, weights, j, smaller(kLanes, rows.dv - j), fading, state.sums);
  }
}

// The keys of one range, for all queries of the heads that share them.
template <typename T>
static void few_queries_task(const AttentionForward& args, int64_t range, int64_t batch,
                             int64_t kv_head) {
  const AttentionSequence queries = attention_queries(args, batch);
  const AttentionSequence keys = attention_keys(args, batch);
  if (queries.length == 0) return;
  QueryTile tile;
  set_queries(args, batch, kv_head, 0, queries, keys.length, &tile);
  const int64_t group = args.q.shape[2] / args.k.shape[2], begin = range * kAttentionKeyRange;
  const int64_t end = smaller(begin + kAttentionKeyRange, keys.length);
  float* query =
      thread_scratch(args, attention_forward_floats(args), attention_forward_shared_floats(args));
  for (int64_t row = 0; row < group * tile.count; ++row) {
    const int64_t head = kv_head * group + row / tile.count;
    const QueryState state = query_state(args, range, batch, head, row % tile.count);
    memset(state.sums, 0, static_cast<size_t>(attention_padded(args.v.shape[3])) * sizeof(float));
    *state.maximum = -__builtin_inff();
    *state.total = 0.0f;
  }
  for (int64_t first = begin; first < end; first += kTile) {
    for (int64_t row = 0; row < group * tile.count; ++row) {
      const int64_t head = kv_head * group + row / tile.count, i = row % tile.count;
      const int64_t from = larger(first, tile.seen_from[i]);
      const int64_t to = smaller(smaller(first + kTile, end), tile.seen_to[i]);
      if (from >= to) continue;
      load_rows(vector_at<T>(args.q, batch, tile.memory + i, head), 0, 1, args.q.shape[3], query,
                attention_padded(args.q.shape[3]), 1);
      const KeyRows<T> rows = {vector_at<T>(args.k, batch, keys.first + from, kv_head),
                               vector_at<T>(args.v, batch, keys.first + from, kv_head),
                               args.k.strides[1],
                               args.v.strides[1],
                               args.q.shape[3],
                               args.v.shape[3],
                               to - from,
                               to + kTile <= end ? kTile : 0};
      add_keys(rows, query, args.scale, query_state(args, range, batch, head, i));
    }
  }
}

// Joins the ranges of one query.
template <typename T>
static void finish_query(const AttentionForward& args, int64_t batch, int64_t head, int64_t query,
                         int64_t memory) {
  const int64_t ranges = attention_key_ranges(args), dv = args.v.shape[3];
  float most = -__builtin_inff(), total = 0.0f;
  for (int64_t range = 0; range < ranges; ++range) {
    const float maximum = *query_state(args, range, batch, head, query).maximum;
    most = maximum > most ? maximum : most;
  }
  const float shift = most == -__builtin_inff() ? 0.0f : most;
  for (int64_t range = 0; range < ranges; ++range) {
    const QueryState state = query_state(args, range, batch, head, query);
    const float factor = exp_bounded(broadcast(*state.maximum - shift))[0];
    total += *state.total * factor;
    *state.maximum = factor;  // all that is still asked of it
  }
  *lse_at(args.lse, batch, memory, head) = most + log_of_total(broadcast(total))[0];
  T* out = vector_at<T>(args.out, batch, memory, head);
  if (total == 0.0f) return zero_rows(out, 0, 1, dv);  // sees nothing
  for_each_vector(dv, [&](int64_t j, int64_t n) {
    Vec value = zero();
    for (int64_t range = 0; range < ranges; ++range) {
      const QueryState state = query_state(args, range, batch, head, query);
      value = fma(load(state.sums + j), broadcast(*state.maximum), value);
    }
    store_lanes(out + j, value * (1.0f / total), n);
  });
}

template <typename T>
static void forward_few_queries(const AttentionForward& args) {
  const int64_t batches = args.q.shape[0], heads = args.q.shape[2], kv_heads = args.k.shape[2];
  const int64_t units = batches * kv_heads, count = args.q.shape[1];
  const int64_t work = args.k.shape[1] * (args.q.shape[3] + args.v.shape[3]);
  parallel_for_dynamic(attention_key_ranges(args) * units, batches * heads * count * work,
                       [&](int64_t task) {
                         const int64_t unit = task % units;
                         few_queries_task<T>(args, task / units, unit / kv_heads, unit % kv_heads);
                       });
  parallel_for(batches * heads, batches * heads * count * args.v.shape[3], [&](int64_t unit) {
    const int64_t batch = unit / heads, head = unit % heads;
    const AttentionSequence queries = attention_queries(args, batch);
    for (int64_t i = 0; i < queries.length; ++i) {
      finish_query<T>(args, batch, head, i, queries.first + i);
    }
    finish_padding<T>(args, batch, head, queries.first + queries.length,
                      queries.first + queries.extent);
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
