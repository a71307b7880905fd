// What the two backward kernels share: the state of a tile of queries, and dS of a tile of scores.
#pragma once

#include "ops/attention/attention_rows_ahead.h"

namespace pymodel::cpu::PYMODEL_ISA {

template <typename P>
struct GradientScratch {
  typedef typename P::Element Element;
  Element* keys;            // (key block, padded d): rows
  Element* keys_turned;     // (key block, padded d): turned
  Element* values;          // (key block, padded dv): rows
  Element* queries;         // (kTile, padded d): lines of q
  Element* query_columns;   // (padded d, kTile): columns of q
  Element* dout;            // (kTile, padded dv): lines
  Element* dout_columns;    // (padded dv, kTile)
  Element* out;             // (kTile, padded dv) in either order
  Element* probabilities;   // (kTile, kTile): keep * P, as A
  Element* gradient_rows;   // (kTile, kTile): dS, as A
  Element* gradient_lines;  // (kTile, kTile): dS, as B
  float* dkeys;             // (key block, padded d)
  float* dvalues;           // (key block, padded dv)
  float* dqueries;          // (padded d, kTile)
  float* lse;               // (kTile): +inf for queries without gradient
  float* row_dot;           // (kTile): D = rowsum(dout * out)
  float* scores;            // (kTile, kTile)
  float* dscores;           // (kTile, kTile): dP
  float* staging;           // (kTile, kTile)
  float* elements;          // (kTile, kTile): bias, then dropout
};

// `next` is a thread's scratch memory; what is left of it comes back there.
template <typename P>
static GradientScratch<P> gradient_scratch(const AttentionInputs& args, float** next) {
  const int64_t d = attention_padded(args.q.shape[3]), dv = attention_padded(args.v.shape[3]);
  const int64_t block = attention_key_block(args);
  GradientScratch<P> s;
  s.keys = take_elements<P>(next, block * d);
  s.keys_turned = P::kInPlace ? s.keys : take_elements<P>(next, block * d);
  s.values = take_elements<P>(next, block * dv);
  s.queries = take_elements<P>(next, kTile * d);
  s.query_columns = take_elements<P>(next, kTile * d);
  s.dout = take_elements<P>(next, kTile * dv);
  s.dout_columns = take_elements<P>(next, kTile * dv);
  s.out = take_elements<P>(next, kTile * dv);
  s.dkeys = take(next, block * d);
  s.dvalues = take(next, block * dv);
  s.dqueries = take(next, kTile * d);
  s.lse = take(next, kTile);
  s.row_dot = take(next, kTile);
  s.scores = take(next, kTile * kTile);
  s.dscores = take(next, kTile * kTile);
  s.staging = take(next, kTile * kTile);
  s.elements = take(next, kTile * kTile);
  typedef typename P::Element Element;
  s.probabilities =
      P::kInPlace ? reinterpret_cast<Element*>(s.scores) : take_elements<P>(next, kTile * kTile);
  s.gradient_rows =
      P::kInPlace ? reinterpret_cast<Element*>(s.dscores) : take_elements<P>(next, kTile * kTile);
  s.gradient_lines = P::kInPlace ? s.gradient_rows : take_elements<P>(next, kTile * kTile);
  return s;
}

// Keys first to last - 1 and their values; of those, the ones from the end of the sequence on are
// padding. False where they cannot be multiplied this way.
template <typename P, typename T>
static bool load_keys(const AttentionInputs& args, const GradientScratch<P>& s, int64_t batch,
                      int64_t kv_head, int64_t first, int64_t last, const AttentionSequence& keys) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv);
  const int64_t held = smaller(last, keys.length) - first, row = keys.first + first;
  const int64_t padded = round_up(last - first, kGroup);
  const T* k = vector_at<T>(args.k, batch, row, kv_head);
  const T* v = vector_at<T>(args.v, batch, row, kv_head);
  P::load_keys(k, args.k.strides[1], held, d, s.keys, ldk, padded);
  if (!P::kInPlace) P::load_turned(k, args.k.strides[1], held, d, s.keys_turned, ldk, padded);
  P::load_keys(v, args.v.strides[1], held, dv, s.values, ldv, padded);
  return P::in_range(s.keys, held * ldk) && P::in_range(s.values, held * ldv);
}

// Args is AttentionBackward or AttentionBiasGradient. False where q or dout cannot be multiplied
// this way.
template <typename P, typename T, typename Args>
static bool load_queries(const Args& args, const GradientScratch<P>& s, const QueryTile& queries) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3], count = queries.count;
  const T* q = vector_at<T>(args.q, queries.batch, queries.memory, queries.head);
  const T* dout = vector_at<T>(args.dout, queries.batch, queries.memory, queries.head);
  const T* out = vector_at<T>(args.out, queries.batch, queries.memory, queries.head);
  const int64_t dout_stride = args.dout.strides[1];
  P::load_lines(q, args.q.strides[1], count, d, s.queries, attention_padded(d));
  P::load_columns(q, args.q.strides[1], count, d, s.query_columns);
  P::load_lines(dout, dout_stride, count, dv, s.dout, attention_padded(dv));
  P::load_columns(dout, dout_stride, count, dv, s.dout_columns);
  P::dot_rows(out, args.out.strides[1], count, dv, s.dout_columns, s.out, s.row_dot);
  const float* lse = lse_at(args.lse, queries.batch, queries.memory, queries.head);
  for (int64_t i = 0; i < queries.lanes; ++i) {
    // exp(score - inf) = 0: lanes beyond the last query and queries that see nothing drop out.
    const bool lives = i < count && lse[i] != -__builtin_inff();
    s.lse[i] = lives ? lse[i] : __builtin_inff();
  }
  return P::in_range(s.queries, round_up(count, 2) * attention_padded(d)) &&
         P::in_range(s.dout, round_up(count, 2) * attention_padded(dv));
}

// P and dS from scores, which are still to be scaled by `factor`, and dP. `careful` is for whatever
// may make an exponent -inf, and for dropout.
template <typename P, bool careful>
static void differentiate_softmax(const QueryTile& queries, const TileRegion& region, float factor,
                                  const GradientScratch<P>& s, const float* keep,
                                  RowsAhead& ahead) {
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    const LaneSight sight = lane_sight(queries, lane, region.first_key);
    const Vec lse = load(s.lse + lane), row_dot = load(s.row_dot + lane);
    for_each_pair(region, lane, [&](int64_t key) {
      ahead.fetch();
      Vec p[2], ds[2];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const int64_t at = (key + i) * kTile + lane;
        const Vec exponent = fma(load(s.scores + at), broadcast(factor), -lse);
        p[i] = P::exponential(exponent);
        Vec dp = load(s.dscores + at);
        if (careful) {
          const IntVec seen = sees(sight, key + i) & (exponent != -infinity());
          const Vec kept = keep == nullptr ? broadcast(1.0f) : load(keep + at);
          p[i] = select(seen, p[i], zero());
          ds[i] = select(seen, p[i] * (kept * dp - row_dot), zero());
          p[i] *= kept;
        } else {
          ds[i] = p[i] * (dp - row_dot);
        }
      }
      P::store_rows(s.probabilities, key, lane, p[0], p[1]);
      P::store_both(s.gradient_rows, s.gradient_lines, key, lane, ds[0], ds[1]);
    });
  }
}

// P and dS of the region; `block` is where its keys lie in s.keys.
template <typename P, typename T>
static void gradient_tile(const AttentionInputs& args, const GradientScratch<P>& s,
                          const QueryTile& queries, const TileRegion& region, int64_t block,
                          RowsAhead& ahead) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv);
  if (!P::kInPlace && region.partial) {
    constexpr size_t kBytes = kTile * kTile * sizeof(typename P::Element);
    memset(s.probabilities, 0, kBytes);
    memset(s.gradient_rows, 0, kBytes);
    memset(s.gradient_lines, 0, kBytes);
  }
  multiply_with_keys<P>(region, s.keys + block * ldk, ldk, d, s.query_columns, s.scores);
  multiply_with_keys<P>(region, s.values + block * ldv, ldv, dv, s.dout_columns, s.dscores);
  const ScoreTerms terms =
      score_terms<T>(args, queries, region, region.partial, s.staging, s.elements, s.scores);
  const auto differentiate =
      terms.careful ? differentiate_softmax<P, true> : differentiate_softmax<P, false>;
  differentiate(queries, region, terms.factor, s, terms.keep, ahead);
}

}  // namespace pymodel::cpu::PYMODEL_ISA
