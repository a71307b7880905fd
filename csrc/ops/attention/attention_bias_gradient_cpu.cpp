// CPU attention, gradient of the additive bias. A pass of its own, because the bias is shared in
// ways that the tasks of the backward pass are not: a task owns a part of the bias and visits
// every score that it was added to, in a fixed order. dS is computed again for it.
#include "cpu/dispatch.h"
#include "ops/attention/attention_gradient_tile.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

typedef GradientScratch<FloatProducts> Scratch;  // what is added up is float32 on any machine

// A part of the bias: one tile of queries (or all, where it is shared by them) and a block of keys.
struct BiasPart {
  int64_t batch, head;   // of the bias
  int64_t first, count;  // queries
  int64_t key, keys;
};

// Adds dS of one (batch, head) to the sums (keys of the part, kTile).
template <typename T>
static void add_head(const AttentionBiasGradient& args, const Scratch& s, const BiasPart& part,
                     int64_t batch, int64_t head, float* sums) {
  const AttentionSequence queries = attention_queries(args, batch);
  const AttentionSequence keys = attention_keys(args, batch);
  const int64_t last = smaller(part.key + part.keys, keys.length);
  if (part.key >= last) return;
  RowsAhead ahead;  // of which there are none
  load_keys<FloatProducts, T>(args, s, batch, head / (args.q.shape[2] / args.k.shape[2]), part.key,
                              last, keys);
  for (int64_t i = part.first; i < smaller(part.first + part.count, queries.length); i += kTile) {
    QueryTile tile;
    set_queries(args, batch, head, i, queries, keys.length, &tile);
    const int64_t stop = smaller(round_up(last, kGroup), tile.key_end);
    const int64_t start = larger(part.key, tile.key_begin);
    if (start >= stop) continue;
    load_queries<FloatProducts, T>(args, s, tile);
    for (int64_t j = start; j < stop; j += kTile) {
      TileRegion region;
      set_region(tile, j, smaller(kTile, stop - j), &region);
      gradient_tile<FloatProducts, T>(args, s, tile, region, j - part.key, ahead);
      float* target = sums + (j - part.key) * kTile;
      for_each_part(region, [&](int64_t key, int64_t count, int64_t lane, int64_t lanes) {
        for (int64_t row = key * kTile; row < (key + count) * kTile; row += kTile) {
          for (int64_t at = row + lane; at < row + lane + lanes; at += kLanes) {
            store(target + at, load(target + at) + load(s.gradient_rows + at));
          }
        }
      });
    }
  }
}

template <typename B>
static void finish_part(const AttentionBiasGradient& args, const Scratch& s, const BiasPart& part,
                        const float* sums) {
  const TensorView& dbias = args.dbias;
  const int64_t length = dbias.shape[3];
  B* out = data_as<B>(dbias) + (part.batch * dbias.shape[1] + part.head) * dbias.shape[2] * length +
           part.key;
  if (dbias.shape[2] == 1) {
    for (int64_t j = 0; j < part.keys; ++j) {
      Vec total = zero();
      for (int64_t lane = 0; lane < kTile; lane += kLanes) total += load(sums + j * kTile + lane);
      from_float(sum(total), out + j);
    }
    return;
  }
  for (int64_t j = 0; j < part.keys; j += kTile) {
    transpose_tile(sums + j * kTile, kTile, kTile, kTile, s.staging, kTile);
    store_rows(s.staging, kTile, part.count, smaller(kTile, part.keys - j), 1.0f,
               out + part.first * length + j, length);
  }
}

template <typename T>
static void bias_gradient(const AttentionBiasGradient& args) {
  const TensorView& dbias = args.dbias;
  const int64_t queries = args.q.shape[1], length = args.k.shape[1];
  const int64_t tile = dbias.shape[2] == 1 ? larger(1, queries) : kTile;
  const int64_t tiles = (dbias.shape[2] + tile - 1) / tile, blocks = attention_key_blocks(args);
  const int64_t block = attention_key_block(args);
  const int64_t batches = args.q.shape[0], heads = args.q.shape[2];
  const int64_t work = queries * length * (args.q.shape[3] + args.v.shape[3]);
  const int64_t tasks = dbias.shape[0] * dbias.shape[1] * tiles * blocks;
  parallel_for_dynamic(tasks, batches * heads * work, [&](int64_t task) {
    BiasPart part;
    part.key = task % blocks * block;
    part.keys = smaller(block, length - part.key);
    part.first = task / blocks % tiles * tile;
    part.count = smaller(tile, queries - part.first);
    part.head = task / blocks / tiles % dbias.shape[1];
    part.batch = task / blocks / tiles / dbias.shape[1];
    float* next = thread_scratch(args, attention_bias_gradient_floats(args), 0);
    const Scratch s = gradient_scratch<FloatProducts>(args, &next);
    float* sums = take(&next, block * kTile);
    memset(sums, 0, static_cast<size_t>(block * kTile) * sizeof(float));
    const bool one_batch = dbias.shape[0] > 1, one_head = dbias.shape[1] > 1;
    for (int64_t b = one_batch ? part.batch : 0; b < (one_batch ? part.batch + 1 : batches); ++b) {
      for (int64_t h = one_head ? part.head : 0; h < (one_head ? part.head + 1 : heads); ++h) {
        add_head<T>(args, s, part, b, h, sums);
      }
    }
    if (dbias.dtype == DType::float32) return finish_part<float>(args, s, part, sums);
    finish_part<T>(args, s, part, sums);
  });
}

}  // namespace

void attention_bias_gradient(const AttentionBiasGradient& args) {
  dispatch_floating(args.q.dtype, [&](auto type) { bias_gradient<decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
