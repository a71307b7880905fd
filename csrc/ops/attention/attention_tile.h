// What the attention kernels share: scratch memory, and the tile of scores.
//
// A tile of scores lies transposed: tile[key * kAttentionTile + query], so that queries fill the
// lanes of a vector. The softmax over the keys then runs lane by lane, with no sum across a vector,
// and the same tile serves every product as it is: as B where the sum runs over keys into queries,
// whose result also lies transposed, and as A in the others.
#pragma once

#include "cpu/math.h"
#include "cpu/parallel.h"
#include "cpu/philox_lanes.h"
#include "ops/attention/attention_products.h"

namespace pymodel::cpu::PYMODEL_ISA {

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

// Memory for `count` elements, or float32 if that is more.
template <typename P>
PYMODEL_INLINE typename P::Element* take_elements(float** next, int64_t count) {
  typedef typename P::Element Element;
  static_assert(2 * sizeof(Element) <= 3 * sizeof(float), "the workspace has room for less");
  const bool wide = sizeof(Element) > sizeof(float);
  return reinterpret_cast<Element*>(take(next, wide ? attention_element_floats(count) : count));
}

// Writes float32 rows of length ld, times `factor`.
template <typename T>
static void store_rows(const float* from, int64_t ld, int64_t rows, int64_t columns, float factor,
                       T* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    if (i + kRowsAhead < rows) prefetch_row<true>(to + (i + kRowsAhead) * stride, columns);
    for_each_vector(columns, [&](int64_t j, int64_t n) {
      store_lanes(to + i * stride + j, load(from + i * ld + j) * factor, n);
    });
  }
}

// Writes a tile of queries' results, which lie transposed in `from` (columns, kTile), each by way
// of finished(lane, results of one column).
template <typename T, typename Finished>
PYMODEL_INLINE void store_queries(const float* from, int64_t count, int64_t columns, T* to,
                                  int64_t stride, const Finished& finished) {
  for (int64_t lane = 0; lane < count; lane += kLanes) {
    const int64_t some = smaller(kLanes, count - lane);
    for (int64_t i = lane + kLanes; i < smaller(count, lane + 2 * kLanes); ++i)
      prefetch_row<true>(to + i * stride, columns);
    for_each_vector(columns, [&](int64_t j, int64_t n) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        block[i] = finished(lane, load(from + (j + i) * kTile + lane));
      transpose(block);
      T* at = to + lane * stride + j;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i, at += stride) {
        if (i < some) store_lanes(at, block[i], n);
      }
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
// What both ways forward write

// Queries that are padding, by rows of memory.
template <typename T>
static void finish_padding(const AttentionForward& args, int64_t batch, int64_t head, int64_t begin,
                           int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    *lse_at(args.lse, batch, i, head) = -__builtin_inff();
    zero_rows(vector_at<T>(args.out, batch, i, head), 0, 1, args.v.shape[3]);
  }
}

// log(total) of a softmax, -inf where there is nothing to sum. Backward divides by exp(lse), so an
// absolute error here is a relative one there: a Newton step takes off what the logarithm, exact to
// a relative 1.2e-7 only, leaves.
PYMODEL_INLINE Vec log_of_total(Vec total) {
  Vec logarithm = log(total);
  logarithm += fma(total, exp_bounded(-logarithm), broadcast(-1.0f));
  return select(total == zero(), -infinity(), logarithm);
}

// ---------------------------------------------------------------------------------------------
// Products

// scores = rows of keys (row length ld, from the region's first key) times columns (depth, kTile).
template <typename P>
static void multiply_with_keys(const TileRegion& region, const typename P::Element* keys,
                               int64_t ld, int64_t depth, const typename P::Element* columns,
                               float* scores) {
  // What is not worked on counts as 0 in the products that follow.
  if (region.partial) memset(scores, 0, kTile * kTile * sizeof(float));
  for_each_part(region, [&](int64_t key, int64_t count, int64_t lane, int64_t lanes) {
    P::multiply_scores(count, depth, lanes, keys + key * ld, ld, columns + P::kPair * lane, kTile,
                       scores + key * kTile + lane, kTile);
  });
}

// out (columns, kTile) = or += the turned tile of keys (row length ld), transposed, times weights.
template <typename P>
static void multiply_over_keys(const QueryTile& queries, const TileRegion& region,
                               const typename P::Element* weights, const typename P::Element* keys,
                               int64_t ld, int64_t columns, float* out, bool accumulate) {
  const int64_t width = region.masked ? kLaneBlock : kTile;
  for (int64_t lane = 0; lane < queries.lanes; lane += width) {
    const int64_t begin = round_down(region.key_begin[lane / kLaneBlock], P::kDepth);
    const int64_t end = round_up(region.key_end[lane / kLaneBlock], P::kDepth);
    if (begin >= end && accumulate) continue;
    P::multiply_turned(columns, larger(0, end - begin), smaller(width, queries.lanes - lane), keys,
                       begin, ld, weights + begin * kTile + P::kPair * lane, kTile, out + lane,
                       kTile, accumulate);
  }
}

// sums (keys, columns; row length ld) += weights times lines of queries (row length ld).
template <typename P>
static void multiply_over_queries(const TileRegion& region, const typename P::Element* weights,
                                  const typename P::Element* queries, int64_t ld, int64_t columns,
                                  float* sums) {
  for_each_part(region, [&](int64_t key, int64_t count, int64_t lane, int64_t lanes) {
    const int64_t begin = round_down(lane, P::kDepth), end = round_up(lane + lanes, P::kDepth);
    P::multiply(count, end - begin, columns, weights + key * kTile + begin, kTile,
                queries + begin * ld, ld, sums + key * ld, ld, true);
  });
}

// ---------------------------------------------------------------------------------------------
// Bias and dropout

// Scales the scores and adds the bias; staging and transposed are (kTile, kTile).
template <typename T>
static void add_bias(const AttentionInputs& args, const QueryTile& queries,
                     const TileRegion& region, float* staging, float* transposed, float* scores) {
  const int64_t* strides = args.bias.strides;
  const int64_t start = queries.batch * strides[0] + queries.head * strides[1] +
                        queries.first * strides[2] + region.first_key;
  const int64_t keys = smaller(region.keys, args.bias.shape[3] - region.first_key);
  if (args.bias.dtype == DType::float32) {
    load_rows(data_as<float>(args.bias) + start, strides[2], queries.count, keys, staging, kTile,
              queries.lanes);
  } else {
    load_rows(data_as<T>(args.bias) + start, strides[2], queries.count, keys, staging, kTile,
              queries.lanes);
  }
  transpose_tile(staging, kTile, queries.lanes, round_up(keys, kLanes), transposed, kTile);
  for_each_part(region, [&](int64_t key, int64_t count, int64_t lane, int64_t lanes) {
    for (int64_t at = key * kTile; at < (key + count) * kTile; at += kTile) {
      for (int64_t i = at + lane; i < at + lane + lanes; i += kLanes) {
        store(scores + i, fma(load(scores + i), broadcast(args.scale), load(transposed + i)));
      }
    }
  });
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

// What is left to do with a tile of scores once bias and dropout have been seen to.
struct ScoreTerms {
  float factor;       // what they are still to be scaled by
  const float* keep;  // (kTile, kTile) of dropout, or null
  bool careful;       // whether an exponent may be -inf, or something is dropped
};

// `masked` says whether the caller has to look at who sees whom; staging and elements are (kTile,
// kTile).
template <typename T>
static ScoreTerms score_terms(const AttentionInputs& args, const QueryTile& queries,
                              const TileRegion& region, bool masked, float* staging,
                              float* elements, float* scores) {
  const bool biased = args.bias.data != nullptr, drops = args.dropout.active;
  if (biased) add_bias<T>(args, queries, region, staging, elements, scores);
  if (drops) fill_keep(args, queries, region, elements);
  return {biased ? 1.0f : args.scale, drops ? elements : nullptr, masked || biased || drops};
}

}  // namespace pymodel::cpu::PYMODEL_ISA
