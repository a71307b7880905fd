// CPU attention, backward. A task, for each of its (batch, kv_head) in turn, holds a block of keys
// and passes all queries of the heads that read them over it, so dK and dV are summed in place over
// queries and heads. Where there are several blocks of keys, dQ is summed over them in float32, in
// the order of the blocks.
#include "cpu/dispatch.h"
#include "ops/attention/attention_gradient_tile.h"
#include "ops/attention/attention_split_products.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// Float32 sums of dQ for one query head: (tiles of queries, padded d, kTile).
PYMODEL_INLINE float* query_sums(const AttentionBackward& args, int64_t split, int64_t batch,
                                 int64_t head) {
  const int64_t unit = (split * args.q.shape[0] + batch) * args.q.shape[2] + head;
  return static_cast<float*>(args.workspace) + unit * attention_head_floats(args);
}

// One tile of queries against one tile of keys; dQ of the tile (padded d, kTile) is `started`
// already, or not.
template <typename P, typename T>
static void backward_tile(const AttentionBackward& args, const GradientScratch<P>& s,
                          const QueryTile& queries, int64_t first_key, int64_t keys, int64_t block,
                          float* dqueries, bool started, RowsAhead& ahead) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv);
  TileRegion region;
  set_region(queries, first_key, keys, &region);
  gradient_tile<P, T>(args, s, queries, region, block, ahead);
  if (args.dv.data != nullptr) {
    multiply_over_queries<P>(region, s.probabilities, s.dout, ldv, dv, s.dvalues + block * ldv);
  }
  if (args.dk.data != nullptr) {
    multiply_over_queries<P>(region, s.gradient_rows, s.queries, ldk, d, s.dkeys + block * ldk);
  }
  if (args.dq.data != nullptr) {
    multiply_over_keys<P>(queries, region, s.gradient_lines, s.keys_turned + block * ldk, ldk, d,
                          dqueries, started);
  }
}

// Writes the dQ of a tile of queries, which lies in `dqueries` (padded d, kTile).
template <typename T>
static void finish_queries(const AttentionBackward& args, const QueryTile& queries,
                           const float* dqueries) {
  store_queries(dqueries, queries.count, args.q.shape[3],
                vector_at<T>(args.dq, queries.batch, queries.memory, queries.head),
                args.dq.strides[1], [&](int64_t, Vec sums) { return sums * args.scale; });
}

// The gradients of keys first to last - 1, if this is the last head that reads them.
template <typename T>
static void add_keys_ahead(const AttentionBackward& args, int64_t batch, int64_t head,
                           const AttentionSequence& keys, int64_t first, int64_t last,
                           RowsAhead* ahead) {
  const int64_t group = args.q.shape[2] / args.k.shape[2];
  if ((head + 1) % group != 0) return;
  const int64_t count = smaller(last, keys.length) - first;
  ahead->add<T>(args.dk, batch, keys.first + first, head / group, count);
  ahead->add<T>(args.dv, batch, keys.first + first, head / group, count);
}

// All queries of one head against the keys first to last - 1 that s holds. False where an operand
// cannot be multiplied this way.
template <typename P, typename T>
static bool backward_head(const AttentionBackward& args, const GradientScratch<P>& s, int64_t batch,
                          int64_t head, int64_t first, int64_t last, const AttentionSequence& keys,
                          float* sums) {
  const AttentionSequence queries = attention_queries(args, batch);
  RowsAhead ahead;
  for (int64_t i = 0; i < queries.length; i += kTile) {
    QueryTile tile;
    set_queries(args, batch, head, i, queries, keys.length, &tile);
    const int64_t start = larger(first, tile.key_begin), stop = smaller(last, tile.key_end);
    if (start < stop) {
      if (sums == nullptr) ahead.add<T>(args.dq, batch, tile.memory, head, tile.count);
      if (i + kTile >= queries.length)
        add_keys_ahead<T>(args, batch, head, keys, first, last, &ahead);
      if (!load_queries<P, T>(args, s, tile)) return false;
      float* dqueries = sums == nullptr ? s.dqueries : sums + i * attention_padded(args.q.shape[3]);
      for (int64_t j = start; j < stop; j += kTile) {
        backward_tile<P, T>(args, s, tile, j, smaller(kTile, stop - j), j - first, dqueries,
                            sums != nullptr || j > start, ahead);
      }
      if (sums == nullptr && args.dq.data != nullptr) {
        finish_queries<T>(args, tile, dqueries);
      }
    } else if (sums == nullptr && args.dq.data != nullptr) {
      zero_rows(vector_at<T>(args.dq, batch, tile.memory, head), args.dq.strides[1], tile.count,
                args.q.shape[3]);
    }
  }
  if (sums == nullptr && args.dq.data != nullptr) {
    zero_rows(vector_at<T>(args.dq, batch, queries.first + queries.length, head),
              args.dq.strides[1], queries.extent - queries.length, args.q.shape[3]);
  }
  return true;
}

// Writes `held` rows of sums, times `factor`, to rows first to last - 1 of a gradient's memory; the
// others become zeros.
template <typename T>
static void finish_keys(const TensorView& gradient, const float* sums, float factor, int64_t batch,
                        int64_t kv_head, int64_t first, int64_t held, int64_t last) {
  if (gradient.data == nullptr) return;
  const int64_t columns = gradient.shape[3], stride = gradient.strides[1];
  store_rows(sums, attention_padded(columns), held, columns, factor,
             vector_at<T>(gradient, batch, first, kv_head), stride);
  zero_rows(vector_at<T>(gradient, batch, first + held, kv_head), stride, last - first - held,
            columns);
}

// The blocks of keys of one split, for one (batch, kv_head) and its group of query heads. False,
// with nothing of use done, where an operand cannot be multiplied this way.
template <typename P, typename T>
static bool backward_task(const AttentionBackward& args, int64_t split, int64_t batch,
                          int64_t kv_head) {
  const int64_t group = args.q.shape[2] / args.k.shape[2];
  const AttentionSequence keys = attention_keys(args, batch);
  const int64_t ldk = attention_padded(args.q.shape[3]), ldv = attention_padded(args.v.shape[3]);
  const int64_t block = attention_key_block(args), blocks = attention_key_blocks(args);
  const int64_t splits = attention_splits(args);
  float* next =
      thread_scratch(args, attention_backward_floats(args), attention_shared_floats(args));
  [[maybe_unused]] const typename P::Unit unit;
  const GradientScratch<P> s = gradient_scratch<P>(args, &next);
  const bool shared = blocks > 1 && args.dq.data != nullptr;
  for (int64_t head = kv_head * group; shared && head < (kv_head + 1) * group; ++head) {
    memset(query_sums(args, split, batch, head), 0,
           static_cast<size_t>(attention_head_floats(args)) * sizeof(float));
  }
  for (int64_t b = split * blocks / splits; b < (split + 1) * blocks / splits; ++b) {
    const int64_t first = b * block, last = smaller(first + block, keys.extent);
    if (first >= last && b > 0) break;  // a packed sequence shorter than the longest
    const int64_t held = clamp(keys.length - first, 0, last - first);
    const int64_t padded = round_up(held, kGroup), row = keys.first + first;
    if (held > 0 && !load_keys<P, T>(args, s, batch, kv_head, first, first + held, keys)) {
      return false;
    }
    memset(s.dkeys, 0, static_cast<size_t>(padded * ldk) * sizeof(float));
    memset(s.dvalues, 0, static_cast<size_t>(padded * ldv) * sizeof(float));
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      float* sums = shared ? query_sums(args, split, batch, head) : nullptr;
      if (!backward_head<P, T>(args, s, batch, head, first, first + padded, keys, sums)) {
        return false;
      }
    }
    finish_keys<T>(args.dk, s.dkeys, args.scale, batch, kv_head, row, held, keys.first + last);
    finish_keys<T>(args.dv, s.dvalues, 1.0f, batch, kv_head, row, held, keys.first + last);
  }
  return true;
}

// dq = scale * the sum of the splits' parts, in their order.
template <typename P, typename T>
static void add_query_sums(const AttentionBackward& args) {
  const int64_t heads = args.q.shape[2], ld = attention_padded(args.q.shape[3]);
  const int64_t tiles = (args.q.shape[1] + kTile - 1) / kTile, splits = attention_splits(args);
  const int64_t tasks = args.q.shape[0] * heads * tiles;
  parallel_for(tasks, tasks * kTile * ld * splits, [&](int64_t task) {
    const int64_t unit = task / tiles, first = task % tiles * kTile;
    const int64_t batch = unit / heads, head = unit % heads;
    const AttentionSequence sequence = attention_queries(args, batch);
    if (first >= sequence.extent) return;
    float* next =
        thread_scratch(args, attention_backward_floats(args), attention_shared_floats(args));
    const GradientScratch<P> s = gradient_scratch<P>(args, &next);
    for (int64_t at = 0; at < ld * kTile; at += kLanes) {
      Vec total = zero();
      for (int64_t split = 0; split < splits; ++split) {
        total += load(query_sums(args, split, batch, head) + first * ld + at);
      }
      store(s.dqueries + at, total);
    }
    QueryTile tile;
    tile.batch = batch;
    tile.head = head;
    tile.memory = sequence.first + first;
    tile.count = smaller(kTile, sequence.extent - first);
    tile.lanes = kTile;
    finish_queries<T>(args, tile, s.dqueries);
  });
}

template <typename P, typename T>
static void backward(const AttentionBackward& args) {
  const int64_t units = args.k.shape[0] * args.k.shape[2];
  const int64_t pairs = args.q.shape[0] * args.q.shape[2] * args.q.shape[1] * args.k.shape[1];
  if (args.k.shape[1] == 0) {  // no block of keys to visit
    for (int64_t batch = 0; args.dq.data != nullptr && batch < args.q.shape[0]; ++batch) {
      const AttentionSequence queries = attention_queries(args, batch);
      for (int64_t i = 0; i < queries.extent; ++i) {
        T* dq = vector_at<T>(args.dq, batch, queries.first + i, 0);
        zero_rows(dq, args.dq.strides[2], args.q.shape[2], args.q.shape[3]);
      }
    }
    return;
  }
  // Split by split: under a causal mask the first blocks of keys are the longest.
  const int64_t cost =
      pairs * (3 * args.q.shape[3] + 2 * args.v.shape[3]) + units * args.k.shape[1];
  const int64_t splits = attention_splits(args), heads = args.k.shape[2];
  const int64_t some =
      args.k.shape[1] > kAttentionChunk ? 1 : heads_per_task(args.k.shape[0], heads);
  const int64_t parts = (heads + some - 1) / some, tasks = args.k.shape[0] * parts;
  parallel_for_dynamic(splits * tasks, cost, [&](int64_t task) {
    const int64_t split = task / tasks, batch = task % tasks / parts;
    const int64_t first = task % parts * some, last = smaller(first + some, heads);
    for (int64_t kv_head = first; kv_head < last; ++kv_head) {
      if (!backward_task<P, T>(args, split, batch, kv_head)) {
        backward_task<FloatProducts, T>(args, split, batch, kv_head);
      }
    }
  });
  if (attention_key_blocks(args) > 1 && args.dq.data != nullptr) add_query_sums<P, T>(args);
}

}  // namespace

void attention_backward(const AttentionBackward& args) {
#ifdef PYMODEL_ISA_avx512_bf16
  if (args.q.dtype == DType::bfloat16 && tile_unit_on()) {
    return backward<UnitProducts, bfloat16>(args);
  }
  if (takes_split_products(args)) return backward<SplitProducts, float>(args);
#endif
  dispatch_floating(args.q.dtype,
                    [&](auto type) { backward<FloatProducts, decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
