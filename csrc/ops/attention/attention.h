// Scaled dot-product attention, computed tile by tile with an online softmax.
//
//   s[i, j] = scale * (q[i] . k[j]) + bias[i, j]      for the keys j that query i sees, else -inf
//   lse[i]  = log(sum over j of exp(s[i, j])),        p[i, j] = exp(s[i, j] - lse[i])
//   out[i]  = sum over j of keep[i, j] * p[i, j] * v[j]
//
// keep is 1, or with dropout 0 or 1 / (1 - dropout_p). With the lengths Lq and Lk of its sequence
// (Sq and Sk when not given), query i < Lq stands at position i + Lk - Lq of the keys and sees
// j < Lk from `window_left` before that position to `window_right` after it; a negative bound is
// none, and causal attention is window_right = 0. A query that sees nothing has out = 0, lse = -inf
// and no gradient; so have the queries from Lq on.
//
// Sequences of different lengths may also lie packed, one after the other without padding: row i of
// sequence b is then row offsets[b] + i of memory, its length offsets[b + 1] - offsets[b], and the
// tensors of queries and of keys stand for (batch, longest, ...) with a batch stride of 0.
//
// q, out and gradients of q have `heads` heads, k and v kv_heads: head h reads h / (heads /
// kv_heads). All are dense along the last dimension and have any strides along the others. No
// matrix of Sq x Sk elements exists at any time: out and lse are all that backward needs.
//
// Sources: Dao, "FlashAttention-2", arXiv:2307.08691; Milakov and Gimelshein, "Online normalizer
// calculation for softmax", arXiv:1805.02867; Shazeer, "Fast Transformer Decoding",
// arXiv:1911.02150 and Ainslie et al., "GQA", arXiv:2305.13245, for fewer key heads than query
// heads.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

// Positions of a sequence at most, so that 32 bits hold sums of two of them.
constexpr int64_t kAttentionLongest = int64_t{1} << 30;

// Dropout keeps element (batch, head, i, j) when the Philox word of this index is below the
// threshold. Rows start at a multiple of four, so that four neighbours always share a Philox block.
static inline PYMODEL_HOST_DEVICE uint64_t attention_dropout_index(uint64_t row, uint64_t key,
                                                                   uint64_t keys) {
  return row * ((keys + 3) / 4 * 4) + key;  // row = (batch * heads + head) * Sq + i
}

struct AttentionDropout {
  float factor = 1.0f;  // 1 / (1 - dropout_p), the value of an element that is kept
  uint32_t threshold = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;
  bool active = false;
};

struct AttentionInputs {
  TensorView q;                // (batch, Sq, heads, d)
  TensorView k;                // (batch, Sk, kv_heads, d)
  TensorView v;                // (batch, Sk, kv_heads, dv)
  TensorView bias;             // (batch, heads, Sq, Sk), broadcast by strides of 0, or null
  TensorView query_lengths;    // (batch) int32 or int64, or null
  TensorView key_lengths;      // (batch) int32 or int64, or null
  TensorView query_offsets;    // (batch + 1) int32 or int64: the sequences lie packed; or null
  TensorView key_offsets;      // (batch + 1), given together with query_offsets, without lengths
  int64_t packed_queries = 0;  // rows of memory of packed sequences
  int64_t packed_keys = 0;
  float scale = 1.0f;
  int64_t window_left = -1;
  int64_t window_right = -1;
  AttentionDropout dropout;
  void* workspace = nullptr;  // aligned to 64; its size is given below
};

struct AttentionForward : AttentionInputs {
  TensorView out;  // (batch, Sq, heads, dv)
  TensorView lse;  // (batch, heads, Sq) float32, dense along the last dimension
  bool recorded =
      true;  // whether backward follows: then lse has to fit scores as backward sums them
  int64_t* fault =
      nullptr;  // where device kernels note a sequence whose offsets are wrong; or null
};

// With dP = dout v^T and D = rowsum(dout * out):
//   dS = P * (keep * dP - D),  dV = (keep * P)^T dout,  dQ = scale * dS K,  dK = scale * dS^T Q
struct AttentionBackward : AttentionInputs {
  TensorView out;   // (batch, Sq, heads, dv)
  TensorView dout;  // (batch, Sq, heads, dv)
  TensorView lse;   // as in forward
  TensorView dq;    // (batch, Sq, heads, d) or null when not wanted
  TensorView dk;    // (batch, Sk, kv_heads, d) or null
  TensorView dv;    // (batch, Sk, kv_heads, dv) or null
};

// dbias = dS, summed over the dimensions along which the bias was broadcast.
struct AttentionBiasGradient : AttentionInputs {
  TensorView out;    // (batch, Sq, heads, dv)
  TensorView dout;   // (batch, Sq, heads, dv)
  TensorView lse;    // as in forward
  TensorView dbias;  // (batch | 1, heads | 1, Sq | 1, Sk), contiguous
};

// The dropout mask as dense booleans, for tests and other curious people.
struct AttentionDropoutMask {
  TensorView mask;  // (batch, heads, Sq, Sk) bool, contiguous
  AttentionDropout dropout;
};

// ---------------------------------------------------------------------------------------------
// Sequences

struct AttentionSequence {
  int64_t first;   // row of memory, from the start of the batch, of position 0
  int64_t length;  // positions that are there
  int64_t extent;  // with padding, which is written but not read
};

// Integer `index` of a vector of int32 or int64.
static inline PYMODEL_HOST_DEVICE int64_t attention_integer(const TensorView& view, int64_t index) {
  const int64_t at = index * view.strides[0];
  return view.dtype == DType::int64 ? static_cast<const int64_t*>(view.data)[at]
                                    : static_cast<const int32_t*>(view.data)[at];
}

static inline PYMODEL_HOST_DEVICE int64_t attention_clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : (x > high ? high : x);
}

// Wrong lengths and offsets lead nowhere outside of the tensors: kernels need not trust them.
static inline PYMODEL_HOST_DEVICE AttentionSequence attention_sequence(const TensorView& lengths,
                                                                       const TensorView& offsets,
                                                                       int64_t packed_rows,
                                                                       int64_t batch,
                                                                       int64_t extent) {
  if (offsets.data != nullptr) {
    const int64_t first = attention_clamp(attention_integer(offsets, batch), 0, packed_rows);
    const int64_t end = attention_clamp(attention_integer(offsets, batch + 1), first, packed_rows);
    const int64_t length = end - first < extent ? end - first : extent;
    return {first, length, length};
  }
  if (lengths.data == nullptr) return {0, extent, extent};
  return {0, attention_clamp(attention_integer(lengths, batch), 0, extent), extent};
}

static inline PYMODEL_HOST_DEVICE AttentionSequence attention_queries(const AttentionInputs& args,
                                                                      int64_t batch) {
  return attention_sequence(args.query_lengths, args.query_offsets, args.packed_queries, batch,
                            args.q.shape[1]);
}
static inline PYMODEL_HOST_DEVICE AttentionSequence attention_keys(const AttentionInputs& args,
                                                                   int64_t batch) {
  return attention_sequence(args.key_lengths, args.key_offsets, args.packed_keys, batch,
                            args.k.shape[1]);
}

// ---------------------------------------------------------------------------------------------
// Extents of tiles, by shape alone: they decide the order of every sum, threads do not.

constexpr int64_t kAttentionTile = 64;       // queries and keys of a tile of scores
constexpr int64_t kAttentionChunkTiles = 4;  // tiles of queries that a forward task takes
constexpr int64_t kAttentionChunk = kAttentionChunkTiles * kAttentionTile;

static inline int64_t attention_round_up(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// Row length of the copies of q, k, v and the rest: whole vectors, and steps of the matrix unit.
static inline int64_t attention_padded(int64_t head_dim) {
  return attention_round_up(head_dim, 32);
}

// Keys whose k and v a task holds at once: 256 KB of float32, half of a small second-level cache.
static inline int64_t attention_key_block(const AttentionInputs& args) {
  constexpr int64_t kFloats = 65536;
  const int64_t row = attention_padded(args.q.shape[3]) + attention_padded(args.v.shape[3]);
  const int64_t fitting = kFloats / row / kAttentionTile * kAttentionTile;
  const int64_t keys = attention_round_up(args.k.shape[1], kAttentionTile);
  const int64_t block = fitting < kAttentionTile ? kAttentionTile : fitting;
  return keys < block ? keys : block;
}

static inline int64_t attention_key_blocks(const AttentionInputs& args) {
  const int64_t block = attention_key_block(args);
  return block == 0 ? 0 : (args.k.shape[1] + block - 1) / block;
}

// Backward works on one (batch, kv_head) a task. Where that gives few tasks, the blocks of keys are
// dealt to several; each then keeps a float32 sum of dQ of its own, and these are added in order.
static inline int64_t attention_splits(const AttentionInputs& args) {
  constexpr int64_t kEnoughTasks = 32;
  const int64_t units = args.k.shape[0] * args.k.shape[2], blocks = attention_key_blocks(args);
  const int64_t wanted = units == 0 ? 1 : (kEnoughTasks + units - 1) / units;
  return wanted < blocks ? wanted : blocks;
}

// Floats that hold `count` elements of an operand, an even number: float32 in three parts of
// bfloat16 at most.
static inline int64_t attention_element_floats(int64_t count) { return count * 3 / 2; }

// Floats of scratch memory for each thread.
static inline int64_t attention_forward_floats(const AttentionInputs& args) {
  const int64_t d = attention_padded(args.q.shape[3]), dv = attention_padded(args.v.shape[3]);
  const int64_t elements =
      attention_key_block(args) * (d + dv) + kAttentionChunk * d + kAttentionTile * kAttentionTile;
  return attention_element_floats(elements) + kAttentionChunk * (dv + 2) +
         kAttentionTile * (3 * kAttentionTile + 1);
}
static inline int64_t attention_backward_floats(const AttentionInputs& args) {
  const int64_t d = attention_padded(args.q.shape[3]), dv = attention_padded(args.v.shape[3]);
  const int64_t elements = attention_key_block(args) * (2 * d + dv) +
                           kAttentionTile * (2 * d + 3 * dv + 3 * kAttentionTile);
  return attention_element_floats(elements) + attention_key_block(args) * (d + dv) +
         kAttentionTile * (d + 4 * kAttentionTile + 2);
}
static inline int64_t attention_bias_gradient_floats(const AttentionInputs& args) {
  return attention_backward_floats(args) + attention_key_block(args) * kAttentionTile;
}

// Forward of a few queries, as in decoding, reads keys and values where they lie. Ranges of keys
// are tasks of their own; for each and every query they keep sums of the output, a maximum and a
// total.
constexpr int64_t kAttentionFewQueries = 4;
constexpr int64_t kAttentionKeyRange = 512;

static inline bool attention_takes_few_queries(const AttentionForward& args) {
  return args.q.shape[1] <= kAttentionFewQueries && !args.recorded && args.bias.data == nullptr &&
         !args.dropout.active;
}
static inline int64_t attention_key_ranges(const AttentionInputs& args) {
  return (args.k.shape[1] + kAttentionKeyRange - 1) / kAttentionKeyRange;
}
static inline int64_t attention_state_floats(const AttentionInputs& args) {
  return attention_padded(args.v.shape[3]) + 16;
}

// Floats that all threads of the forward pass share.
static inline int64_t attention_forward_shared_floats(const AttentionForward& args) {
  if (!attention_takes_few_queries(args)) return 0;
  return attention_key_ranges(args) * args.q.shape[0] * args.q.shape[2] * args.q.shape[1] *
         attention_state_floats(args);
}

// Floats of one head's queries, in whole tiles.
static inline int64_t attention_head_floats(const AttentionInputs& args) {
  return attention_round_up(args.q.shape[1], kAttentionTile) * attention_padded(args.q.shape[3]);
}

// Floats that all threads of the backward pass share: dQ in float32 while blocks of keys add to it.
static inline int64_t attention_shared_floats(const AttentionInputs& args) {
  if (attention_key_blocks(args) <= 1) return 0;
  return attention_splits(args) * args.q.shape[0] * args.q.shape[2] * attention_head_floats(args);
}

// ---------------------------------------------------------------------------------------------
// Devices

// The largest head dimension that device kernels take; the CPU's take any.
constexpr int64_t kAttentionDeviceHeadDim = 256;

// Rows of memory that hold queries, of all heads.
static inline int64_t attention_statistics_rows(const AttentionInputs& args) {
  const bool packed = args.query_offsets.data != nullptr;
  return (packed ? args.packed_queries : args.q.shape[0] * args.q.shape[1]) * args.q.shape[2];
}

// Bytes of scratch memory for both backward kernels: -lse and D of each query. Forward needs none.
static inline int64_t attention_backward_device_workspace(const AttentionInputs& args) {
  return 2 * attention_statistics_rows(args) * static_cast<int64_t>(sizeof(float));
}

PYMODEL_DECLARE_KERNEL(attention_forward, AttentionForward)
PYMODEL_DECLARE_KERNEL(attention_backward, AttentionBackward)
PYMODEL_DECLARE_KERNEL(attention_bias_gradient, AttentionBiasGradient)
PYMODEL_DECLARE_KERNEL(attention_dropout_mask, AttentionDropoutMask)

}  // namespace pymodel
