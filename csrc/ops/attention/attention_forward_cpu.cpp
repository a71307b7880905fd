// CPU attention, forward. A task is a chunk of queries of a head, or of several heads in turn: it
// passes over the keys once, keeping the running maximum, sum and output of each query (online
// softmax).
#include "cpu/dispatch.h"
#include "ops/attention/attention_few_queries.h"
#include "ops/attention/attention_rows_ahead.h"
#include "ops/attention/attention_split_products.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename P>
struct ForwardScratch {
  typedef typename P::Element Element;
  Element* keys;     // (key block, padded d): rows
  Element* values;   // (key block, padded dv): turned
  Element* columns;  // (chunk tiles, padded d, kTile): q
  Element* weights;  // (kTile, kTile): P, where it does not take the place of the scores
  float* sums;       // (chunk tiles, padded dv, kTile): the output times `total`, transposed
  float* maximum;    // (chunk)
  float* total;      // (chunk): sum of exp(score - maximum)
  float* rescale;    // (kTile)
  float* scores;     // (kTile, kTile)
  float* staging;    // (kTile, kTile)
  float* elements;   // (kTile, kTile): bias, then dropout
};

template <typename P>
static ForwardScratch<P> forward_scratch(const AttentionForward& args) {
  const int64_t d = attention_padded(args.q.shape[3]), dv = attention_padded(args.v.shape[3]);
  const int64_t block = attention_key_block(args);
  float* next = thread_scratch(args, attention_forward_floats(args), 0);
  ForwardScratch<P> s;
  s.keys = take_elements<P>(&next, block * d);
  s.values = take_elements<P>(&next, block * dv);
  s.columns = take_elements<P>(&next, kAttentionChunk * d);
  s.weights = take_elements<P>(&next, kTile * kTile);
  s.sums = take(&next, kAttentionChunk * dv);
  s.maximum = take(&next, kAttentionChunk);
  s.total = take(&next, kAttentionChunk);
  s.rescale = take(&next, kTile);
  s.scores = take(&next, kTile * kTile);
  s.staging = take(&next, kTile * kTile);
  s.elements = take(&next, kTile * kTile);
  return s;
}

// ---------------------------------------------------------------------------------------------
// Softmax

// Takes a tile of scores, which are still to be scaled by `factor`, into the running maximum and
// total of its queries, makes `weights` of it, and says by what the earlier sums have to be
// rescaled. `careful` is for keys that are not seen, a bias of -inf, and for dropout, whose factors
// `keep` are null or (kTile, kTile): the softmax is normalised before it is thinned.
template <typename P, bool careful>
static void softmax_tile(const QueryTile& queries, const TileRegion& region, float factor,
                         float* scores, const float* keep, float* maximum, float* total,
                         float* rescale, typename P::Element* weights, RowsAhead& ahead) {
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    const LaneSight sight = lane_sight(queries, lane, region.first_key);
    const Vec before = load(maximum + lane);
    Vec best[4] = {before, before, before, before};  // so that none waits for the last
    for_each_pair(region, lane, [&](int64_t key) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        float* at = scores + (key + i) * kTile + lane;
        Vec exponent = load(at) * factor;
        if (careful) {
          exponent = select(sees(sight, key + i), exponent, -infinity());
          store(at, exponent);
        }
        Vec& most = best[key % 4 + i];
        most = max(most, exponent);
      }
    });
    const Vec after = max(max(best[0], best[1]), max(best[2], best[3]));
    // Without a finite score yet, -inf - 0 gives 0 where -inf - -inf would be NaN.
    const Vec shift = select(after == -infinity(), zero(), after);
    Vec sums[2] = {zero(), zero()};
    for_each_pair(region, lane, [&](int64_t key) {
      ahead.fetch();
      Vec pair[2];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const int64_t at = (key + i) * kTile + lane;
        const Vec score = load(scores + at);
        pair[i] = P::exponential(careful ? score - shift : fma(score, broadcast(factor), -shift));
        if (careful) pair[i] = select(score == -infinity(), zero(), pair[i]);
        sums[i] += pair[i];
        if (careful && keep != nullptr) pair[i] *= load(keep + at);
      }
      P::store_lines(weights, key, lane, pair[0], pair[1]);
    });
    const Vec fading = select(before == -infinity(), zero(), P::exponential(before - shift));
    store(maximum + lane, after);
    store(total + lane, fma(load(total + lane), fading, sums[0] + sums[1]));
    store(rescale + lane, fading);
  }
}

// Rescales sums (columns, kTile); mostly by nothing, once the maxima have been met.
static void rescale_columns(const QueryTile& queries, const float* factors, int64_t columns,
                            float* sums) {
  bool changes = false;
  for (int64_t i = 0; i < queries.count; ++i) changes |= factors[i] != 1.0f;
  if (!changes) return;
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    const Vec factor = load(factors + lane);
    for (int64_t j = 0; j < columns; ++j) {
      store(sums + j * kTile + lane, load(sums + j * kTile + lane) * factor);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Task

// P of a tile, unnormalised, from its scores.
template <typename P, typename T>
static typename P::Element* tile_weights(const AttentionForward& args, const ForwardScratch<P>& s,
                                         const QueryTile& queries, const TileRegion& region,
                                         int64_t index, RowsAhead& ahead) {
  typedef typename P::Element Element;
  Element* weights = P::kInPlace ? reinterpret_cast<Element*>(s.scores) : s.weights;
  if (!P::kInPlace && region.partial) memset(weights, 0, kTile * kTile * sizeof(Element));
  float* maximum = s.maximum + index * kTile;
  float* total = s.total + index * kTile;
  const ScoreTerms terms =
      score_terms<T>(args, queries, region, region.masked, s.staging, s.elements, s.scores);
  const auto softmax = terms.careful ? softmax_tile<P, true> : softmax_tile<P, false>;
  softmax(queries, region, terms.factor, s.scores, terms.keep, maximum, total, s.rescale, weights,
          ahead);
  return weights;
}

// One tile of queries against one tile of keys; `block` is the position of the tile in the block.
template <typename P, typename T>
static void forward_tile(const AttentionForward& args, const ForwardScratch<P>& s,
                         const QueryTile& queries, int64_t index, int64_t first_key, int64_t keys,
                         int64_t block, RowsAhead& ahead) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv);
  float* sums = s.sums + index * kTile * ldv;
  TileRegion region;
  set_region(queries, first_key, keys, &region);
  multiply_with_keys<P>(region, s.keys + block * ldk, ldk, d, s.columns + index * kTile * ldk,
                        s.scores);
  const typename P::Element* weights = tile_weights<P, T>(args, s, queries, region, index, ahead);
  const bool first = first_key == queries.key_begin;
  if (!first) rescale_columns(queries, s.rescale, dv, sums);
  multiply_over_keys<P>(queries, region, weights, s.values + block * ldv, ldv, dv, sums, !first);
}

// Says whether the queries can be multiplied this way.
template <typename P, typename T>
static bool start_queries(const AttentionForward& args, const ForwardScratch<P>& s,
                          const QueryTile& queries, int64_t index) {
  const int64_t d = args.q.shape[3], ldk = attention_padded(d);
  typename P::Element* columns = s.columns + index * kTile * ldk;
  P::load_columns(vector_at<T>(args.q, queries.batch, queries.memory, queries.head),
                  args.q.strides[1], queries.count, d, columns);
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    store(s.maximum + index * kTile + lane, -infinity());
    store(s.total + index * kTile + lane, zero());
  }
  return P::in_range(columns, ldk * kTile);
}

template <typename P, typename T>
static void finish_queries(const AttentionForward& args, const ForwardScratch<P>& s,
                           const QueryTile& queries, int64_t index) {
  const int64_t dv = args.v.shape[3], ldv = attention_padded(dv);
  float* total = s.total + index * kTile;
  float lse[kTile];
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    store(lse + lane, load(s.maximum + index * kTile + lane) + log_of_total(load(total + lane)));
  }
  memcpy(lse_at(args.lse, queries.batch, queries.memory, queries.head), lse,
         static_cast<size_t>(queries.count) * sizeof(float));
  store_queries(s.sums + index * kTile * ldv, queries.count, dv,
                vector_at<T>(args.out, queries.batch, queries.memory, queries.head),
                args.out.strides[1], [&](int64_t lane, Vec sums) {
                  const Vec all = load(total + lane);
                  // A query that sees nothing; its sums may never have been written.
                  return select(all == zero(), zero(), sums * (broadcast(1.0f) / all));
                });
}

// What is read after a block of keys whose last is `last` - 1: another of this head, or once its
// `end` is reached, where its results go and, if it is `followed`, the next one's rows.
template <typename T>
static void add_rows_ahead(const AttentionForward& args, const QueryTile& queries, int64_t count,
                           const AttentionSequence& keys, int64_t begin, int64_t last, int64_t end,
                           bool followed, RowsAhead* ahead) {
  const bool done = last >= end;
  if (done) ahead->add<T>(args.out, queries.batch, queries.memory, queries.head, count);
  if (done && !followed) return;
  const int64_t next = done ? begin : last, head = done ? queries.head + 1 : queries.head;
  const int64_t kv_head = head / (args.q.shape[2] / args.k.shape[2]);
  const int64_t held = smaller(attention_key_block(args), keys.length - next);
  if (done) ahead->add<T>(args.q, queries.batch, queries.memory, head, count);
  ahead->add<T>(args.k, queries.batch, keys.first + next, kv_head, held);
  ahead->add<T>(args.v, queries.batch, keys.first + next, kv_head, held);
}

// `followed` says whether the next head comes next. False, with nothing of use done, where an
// operand cannot be multiplied this way.
template <typename P, typename T>
static bool forward_chunk(const AttentionForward& args, int64_t batch, int64_t head, int64_t begin,
                          int64_t end, bool followed) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv);
  const int64_t kv_head = head / (args.q.shape[2] / args.k.shape[2]);
  const AttentionSequence queries = attention_queries(args, batch);
  const AttentionSequence key_sequence = attention_keys(args, batch);
  const int64_t keys = key_sequence.length;
  finish_padding<T>(args, batch, head, queries.first + larger(begin, queries.length),
                    queries.first + smaller(end, queries.extent));
  [[maybe_unused]] const typename P::Unit unit;
  const ForwardScratch<P> s = forward_scratch<P>(args);
  QueryTile tiles[kAttentionChunkTiles];
  int64_t count = 0, key_begin = keys, key_end = 0;
  for (int64_t i = begin; i < smaller(end, queries.length); i += kTile, ++count) {
    set_queries(args, batch, head, i, queries, keys, &tiles[count]);
    if (!start_queries<P, T>(args, s, tiles[count], count)) return false;
    key_begin = smaller(key_begin, tiles[count].key_begin);
    key_end = larger(key_end, tiles[count].key_end);
  }
  const int64_t block = attention_key_block(args);
  RowsAhead ahead;
  for (int64_t first = key_begin; first < key_end; first += block) {
    const int64_t last = smaller(first + block, key_end), held = smaller(last, keys) - first;
    P::load_keys(vector_at<T>(args.k, batch, key_sequence.first + first, kv_head),
                 args.k.strides[1], held, d, s.keys, ldk, last - first);
    P::load_turned(vector_at<T>(args.v, batch, key_sequence.first + first, kv_head),
                   args.v.strides[1], held, dv, s.values, ldv, last - first);
    if (!P::in_range(s.keys, held * ldk) || !P::in_range(s.values, round_up(held, kTile) * ldv)) {
      return false;
    }
    add_rows_ahead<T>(args, tiles[0], smaller(end, queries.length) - begin, key_sequence, key_begin,
                      last, key_end, followed, &ahead);
    for (int64_t t = 0; t < count; ++t) {
      const int64_t stop = smaller(last, tiles[t].key_end);
      for (int64_t j = larger(first, tiles[t].key_begin); j < stop; j += kTile) {
        forward_tile<P, T>(args, s, tiles[t], t, j, smaller(kTile, stop - j), j - first, ahead);
      }
    }
  }
  for (int64_t t = 0; t < count; ++t) finish_queries<P, T>(args, s, tiles[t], t);
  return true;
}

template <typename P, typename T>
static void forward(const AttentionForward& args) {
  const int64_t batches = args.q.shape[0], queries = args.q.shape[1], heads = args.q.shape[2];
  const int64_t chunks = (queries + kAttentionChunk - 1) / kAttentionChunk;
  const int64_t work = args.k.shape[1] * (args.q.shape[3] + args.v.shape[3]) + args.v.shape[3];
  const int64_t some = chunks > 1 ? 1 : heads_per_task(batches, heads);
  const int64_t parts = (heads + some - 1) / some, units = batches * parts;
  parallel_for_dynamic(units * chunks, batches * heads * queries * work, [&](int64_t task) {
    // The last chunks first: under a causal mask they are the longest.
    const int64_t begin = (chunks - 1 - task / units) * kAttentionChunk;
    const int64_t end = smaller(begin + kAttentionChunk, queries);
    const int64_t batch = task % units / parts, first = task % units % parts * some;
    const int64_t last = smaller(first + some, heads);
    for (int64_t head = first; head < last; ++head) {
      const bool followed = head + 1 < last;
      if (!forward_chunk<P, T>(args, batch, head, begin, end, followed)) {
        forward_chunk<FloatProducts, T>(args, batch, head, begin, end, followed);
      }
    }
  });
}

}  // namespace

void attention_forward(const AttentionForward& args) {
  if (attention_takes_few_queries(args)) {
    return dispatch_floating(args.q.dtype,
                             [&](auto type) { forward_few_queries<decltype(type)>(args); });
  }
#ifdef PYMODEL_ISA_avx512_bf16
  if (args.q.dtype == DType::bfloat16 && tile_unit_on()) {
    return forward<UnitProducts, bfloat16>(args);
  }
  if (takes_split_products(args)) return forward<SplitProducts, float>(args);
#endif
  dispatch_floating(args.q.dtype, [&](auto type) { forward<FloatProducts, decltype(type)>(args); });
}

void attention_dropout_mask(const AttentionDropoutMask& args) {
  const int64_t rows = args.mask.shape[0] * args.mask.shape[1] * args.mask.shape[2];
  const int64_t keys = args.mask.shape[3];
  parallel_for(rows, rows * keys, [&](int64_t row) {
    uint8_t* mask = data_as<uint8_t>(args.mask) + row * keys;
    for (int64_t j = 0; j < keys; ++j) {
      const uint64_t index = attention_dropout_index(
          static_cast<uint64_t>(row), static_cast<uint64_t>(j), static_cast<uint64_t>(keys));
      mask[j] = philox_word(args.dropout.seed, args.dropout.offset, index) < args.dropout.threshold;
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
