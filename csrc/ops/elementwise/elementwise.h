// Element by element operations on tensors of any strides.
//
// Every view of one call has the same shape: the caller broadcasts by strides of 0 (broadcast_to).
// Only the output must not overlap itself. A view whose data is null stands for a number.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

// A number from the caller, exact in whichever of the two the tensor's type asks for.
struct Scalar {
  double real = 0;
  int64_t integer = 0;
};

struct FillArguments {
  TensorView out;
  Scalar value;
};

// out = x, converted to out's type. Floats become integers by truncation; NaN becomes 0 and what
// int64 cannot hold its nearest limit. Everything that is not zero becomes true.
struct CopyArguments {
  TensorView x;
  TensorView out;
};

enum class BinaryOp : uint8_t { add, sub, mul, div, maximum, minimum, pow, eq, ne, lt, le, gt, ge };

static constexpr bool is_comparison(BinaryOp op) { return op >= BinaryOp::eq; }

// out = a op b. a and b have one type: a floating one for every op; int32, int64, uint8 or bool for
// all but div and pow. Low-precision floats are widened to float32 and rounded once. maximum and
// minimum give NaN where either side is NaN. out is bool for comparisons, else of the inputs' type.
struct BinaryArguments {
  BinaryOp op = BinaryOp::add;
  TensorView a;  // null: `scalar` on the left
  TensorView b;  // null: `scalar` on the right
  TensorView out;
  Scalar scalar;
};

// out = f(x) for floating types, evaluated in float32.
enum class UnaryOp : uint8_t {
  neg,
  abs,
  exp,
  log,
  sqrt,
  rsqrt,
  reciprocal,
  square,
  sin,
  cos,
  erf,
  clamp,  // to [low, high]; NaN stays
};

struct UnaryArguments {
  UnaryOp op = UnaryOp::neg;
  TensorView x;
  TensorView out;
  float low = 0, high = 0;  // clamp only
};

// dx = dy * f'(x), rounded once. |x| has derivative 0 at 0; clamp has 1 on its bounds.
struct UnaryBackward {
  UnaryOp op = UnaryOp::neg;
  TensorView dy;
  TensorView x;
  TensorView dx;
  float low = 0, high = 0;
};

// out = condition ? a : b, with condition bool and the others of one type, moved without a look.
struct WhereArguments {
  TensorView condition;
  TensorView a;
  TensorView b;
  TensorView out;
};

PYMODEL_DECLARE_KERNEL(fill, FillArguments)
PYMODEL_DECLARE_KERNEL(copy, CopyArguments)
PYMODEL_DECLARE_KERNEL(binary, BinaryArguments)
PYMODEL_DECLARE_KERNEL(unary, UnaryArguments)
PYMODEL_DECLARE_KERNEL(unary_backward, UnaryBackward)
PYMODEL_DECLARE_KERNEL(where, WhereArguments)

}  // namespace pymodel
