// What the two backward kernels share: the state of a tile of queries, and dS of a tile of scores.
#pragma once

#include "ops/attention/attention_tile.h"

namespace pymodel::cpu::PYMODEL_ISA {

struct GradientScratch {
  float* keys;           // (key block, padded d)
  float* values;         // (key block, padded dv)
  float* dkeys;          // (key block, padded d)
  float* dvalues;        // (key block, padded dv)
  float* queries;        // (kTile, padded d): scale * q
  float* query_columns;  // (padded d, kTile), the same transposed
  float* dqueries;       // (kTile, padded d)
  float* dout;           // (kTile, padded dv)
  float* dout_columns;   // (padded dv, kTile)
  float* out;            // (kTile, padded dv)
  float* out_columns;    // (padded dv, kTile)
  float* lse;            // (kTile): +inf for queries without gradient
  float* row_dot;        // (kTile): D = rowsum(dout * out)
  float* probabilities;  // (kTile, kTile): keep * P
  float* dscores;        // (kTile, kTile): dP, then dS
  float* staging;        // (kTile, kTile)
  float* elements;       // (kTile, kTile): bias, then dropout
};

// `next` is a thread's scratch memory; what is left of it comes back there.
PYMODEL_INLINE GradientScratch gradient_scratch(const AttentionInputs& args, float** next) {
  const int64_t d = attention_padded(args.q.shape[3]), dv = attention_padded(args.v.shape[3]);
  const int64_t block = attention_key_block(args);
  GradientScratch s;
  s.keys = take(next, block * d);
  s.values = take(next, block * dv);
  s.dkeys = take(next, block * d);
  s.dvalues = take(next, block * dv);
  s.queries = take(next, kTile * d);
  s.query_columns = take(next, kTile * d);
  s.dqueries = take(next, kTile * d);
  s.dout = take(next, kTile * dv);
  s.dout_columns = take(next, kTile * dv);
  s.out = take(next, kTile * dv);
  s.out_columns = take(next, kTile * dv);
  s.lse = take(next, kTile);
  s.row_dot = take(next, kTile);
  s.probabilities = take(next, kTile * kTile);
  s.dscores = take(next, kTile * kTile);
  s.staging = take(next, kTile * kTile);
  s.elements = take(next, kTile * kTile);
  return s;
}

// Keys first to last - 1 and their values; of those, the ones from the end of the sequence on are
// padding.
template <typename T>
static void load_keys(const AttentionInputs& args, const GradientScratch& s, int64_t batch,
                      int64_t kv_head, int64_t first, int64_t last, const AttentionSequence& keys) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t held = smaller(last, keys.length) - first, row = keys.first + first;
  load_rows(vector_at<T>(args.k, batch, row, kv_head), args.k.strides[1], held, d, 1.0f, s.keys,
            attention_padded(d), round_up(last - first, kGroup));
  load_rows(vector_at<T>(args.v, batch, row, kv_head), args.v.strides[1], held, dv, 1.0f, s.values,
            attention_padded(dv), round_up(last - first, kGroup));
}

// Args is AttentionBackward or AttentionBiasGradient.
template <typename T, typename Args>
static void load_queries(const Args& args, const GradientScratch& s, const QueryTile& queries) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv), lanes = queries.lanes;
  load_rows(vector_at<T>(args.q, queries.batch, queries.memory, queries.head), args.q.strides[1],
            queries.count, d, args.scale, s.queries, ldk, lanes);
  load_rows(vector_at<T>(args.dout, queries.batch, queries.memory, queries.head),
            args.dout.strides[1], queries.count, dv, 1.0f, s.dout, ldv, lanes);
  load_rows(vector_at<T>(args.out, queries.batch, queries.memory, queries.head),
            args.out.strides[1], queries.count, dv, 1.0f, s.out, ldv, lanes);
  transpose_tile(s.queries, ldk, lanes, round_up(d, kLanes), s.query_columns, kTile);
  transpose_tile(s.dout, ldv, lanes, round_up(dv, kLanes), s.dout_columns, kTile);
  transpose_tile(s.out, ldv, lanes, round_up(dv, kLanes), s.out_columns, kTile);
  // Summed in the order of the product that gives dP, so that where a query sees one key only,
  // and its output is that value, dP - D is exactly zero.
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    Vec dot = zero();
    for (int64_t first = 0; first < dv; first += kSumLength) {
      Vec part = zero();
      for (int64_t j = first; j < smaller(first + kSumLength, dv); ++j) {
        const int64_t at = j * kTile + lane;
        part = fma(load(s.out_columns + at), load(s.dout_columns + at), part);
      }
      dot = first == 0 ? part : part + dot;
    }
    store(s.row_dot + lane, dot);
  }
  const float* lse = lse_at(args.lse, queries.batch, queries.memory, queries.head);
  for (int64_t i = 0; i < lanes; ++i) {
    // exp(score - inf) = 0: lanes beyond the last query and queries that see nothing drop out.
    const bool lives = i < queries.count && lse[i] != -__builtin_inff();
    s.lse[i] = lives ? lse[i] : __builtin_inff();
  }
}

// P and dS from the scores and dP, in their places.
template <bool masked>
static void differentiate_softmax(const QueryTile& queries, const TileRegion& region,
                                  const GradientScratch& s, const float* keep) {
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes) {
    const LaneSight sight = lane_sight(queries, lane, region.first_key);
    const Vec lse = load(s.lse + lane), row_dot = load(s.row_dot + lane);
    for_each_key(region, lane, [&](int64_t at, int64_t key) {
      Vec p = exp_bounded(load(s.probabilities + at) - lse);
      const Vec kept = keep == nullptr ? broadcast(1.0f) : load(keep + at);
      Vec ds = p * (kept * load(s.dscores + at) - row_dot);
      if (masked) {
        const IntVec seen = sees(sight, key);
        p = select(seen, p, zero());
        ds = select(seen, ds, zero());
      }
      store(s.probabilities + at, p * kept);
      store(s.dscores + at, ds);
    });
  }
}

// s.probabilities and s.dscores of the region; `block` is where its keys lie in s.keys.
template <typename T>
static void gradient_tile(const AttentionInputs& args, const GradientScratch& s,
                          const QueryTile& queries, const TileRegion& region, int64_t block) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3];
  const int64_t ldk = attention_padded(d), ldv = attention_padded(dv);
  product_with_keys(region, s.keys + block * ldk, ldk, d, s.query_columns, s.probabilities);
  product_with_keys(region, s.values + block * ldv, ldv, dv, s.dout_columns, s.dscores);
  if (args.bias.data != nullptr) {
    add_bias<T>(args, queries, region, s.staging, s.elements, s.probabilities);
  }
  if (args.dropout.active) fill_keep(args, queries, region, s.elements);
  const float* keep = args.dropout.active ? s.elements : nullptr;
  if (region.masked) {
    differentiate_softmax<true>(queries, region, s, keep);
  } else {
    differentiate_softmax<false>(queries, region, s, keep);
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
