// What the launchers of attention share: the choice of an instance and the order of its blocks.
#pragma once

#include <type_traits>

#include "cuda/launch.h"
#include "cuda/numeric.cuh"
#include "ops/attention/attention_plan.cuh"

namespace pymodel::PYMODEL_BACKEND {

// ---------------------------------------------------------------------------------------------
// Instances

template <int value>
using Constant = std::integral_constant<int, value>;

enum class HeadDims { fine, coarse };

template <typename T>
constexpr HeadDims kHeadDimsOf = std::is_same_v<T, float> ? HeadDims::coarse : HeadDims::fine;

// Calls body with the smallest row length of shared memory that holds rows of both q and v. Smaller
// heads are filled up with zeros. Coarse steps make for fewer instances, where speed matters less.
template <HeadDims steps, typename Body>
void dispatch_head_dim(const AttentionInputs& args, const Body& body) {
  const int64_t d = args.q.shape[3], dv = args.v.shape[3], widest = d < dv ? dv : d;
  if constexpr (steps == HeadDims::fine) {
    if (widest <= 32) return body(Constant<32>{});
    if (widest > 64 && widest <= 96) return body(Constant<96>{});
  }
  if (widest <= 64) return body(Constant<64>{});
  if (widest <= 128) return body(Constant<128>{});
  body(Constant<kAttentionDeviceHeadDim>{});
}

// Whether every row of the head dimension starts and ends at a multiple of 16 bytes.
inline bool rows_aligned(const TensorView& view) {
  return aligned_16(view.data) && aligned_16(view.strides[0], view.dtype) &&
         aligned_16(view.strides[1], view.dtype) && aligned_16(view.strides[2], view.dtype) &&
         aligned_16(view.shape[3], view.dtype);
}

// ---------------------------------------------------------------------------------------------
// Order of the blocks

// `head_bytes` are what all tiles of a head read in common.
inline TaskOrder task_order(int64_t rows, int tile_rows, int64_t batches, int64_t heads,
                            int64_t head_bytes, bool last_tile_first) {
  constexpr int64_t kCacheBytes = 16 << 20;  // well inside the 40 MB of an A100
  const int64_t section = head_bytes > kCacheBytes ? 1 : kCacheBytes / (head_bytes + 1) + 1;
  return {(rows + tile_rows - 1) / tile_rows, heads, batches * heads, section, last_tile_first};
}

// The bytes of one head of a (batch, rows, heads, columns) tensor and of its companion.
inline int64_t bytes_of_two(const TensorView& view) {
  return 2 * view.shape[1] * view.shape[3] * static_cast<int64_t>(item_size(view.dtype));
}

inline int64_t query_heads_of_key_head(const AttentionInputs& args) {
  return args.k.shape[2] == 0 ? 1 : args.q.shape[2] / args.k.shape[2];
}

}  // namespace pymodel::PYMODEL_BACKEND
