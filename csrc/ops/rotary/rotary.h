// Rotary position embeddings: pairs of a head's elements turned by angles that grow with the
// position.
//
//   y1 = x1 cos - x2 sin        y2 = x2 cos + x1 sin
//
// Pair i of the first rotary_dim elements is (x[i], x[i + rotary_dim / 2]), or (x[2 i], x[2 i + 1])
// when interleaved; the elements behind them pass through. The arithmetic is float32. The gradient
// is the rotation by the opposite angles.
//
// Source: Su et al., "RoFormer", arXiv:2104.09864, section 3.2.2.
#pragma once

#include "core/integers.h"
#include "core/kernel.h"

namespace pymodel {

struct Rotary {
  TensorView x;                // (batch, seq, heads, head_dim), dense along head_dim
  TensorView y;                // the same; may be x itself
  TensorView cos, sin;         // (positions, rotary_dim / 2), float32, dense along columns
  TensorView position;         // (batch, seq), int64 or int32; null: a token's place in seq
  bool interleaved = false;    // neighbours are pairs
  bool opposite = false;       // turn by the opposite angles
  int64_t* invalid = nullptr;  // out: the first token (row-major) whose position is no row, else -1
};

static inline PYMODEL_HOST_DEVICE int64_t position_of(const Rotary& args, int64_t batch,
                                                      int64_t token) {
  if (args.position.data == nullptr) return token;
  return integer_at(args.position, batch, token);
}

PYMODEL_DECLARE_KERNEL(rotary, Rotary)

}  // namespace pymodel
