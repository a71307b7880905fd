// CPU unary operations and their derivatives, one loop each over dense float32 blocks.
#include "cpu/math.h"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/map_floats.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

constexpr float kTwoOverSqrtPi = 1.12837916709551257f;

struct Bounds {
  float low, high;
};

// ---------------------------------------------------------------------------------------------
// Functions of a vector

// Arguments of any size need an exact reduction by pi: left to the C library.
PYMODEL_INLINE Vec sin(Vec x) {
  Vec result = x;
  for (int i = 0; i < kLanes; ++i) result[i] = __builtin_sinf(x[i]);
  return result;
}

PYMODEL_INLINE Vec cos(Vec x) {
  Vec result = x;
  for (int i = 0; i < kLanes; ++i) result[i] = __builtin_cosf(x[i]);
  return result;
}

template <UnaryOp op>
PYMODEL_INLINE Vec apply(Vec x, const Bounds& bounds) {
  const Vec one = broadcast(1.0f);
  if constexpr (op == UnaryOp::neg) return -x;
  if constexpr (op == UnaryOp::abs) return abs(x);
  if constexpr (op == UnaryOp::exp) return exp(x);
  if constexpr (op == UnaryOp::log) return log(x);
  if constexpr (op == UnaryOp::sqrt) return sqrt(x);
  if constexpr (op == UnaryOp::rsqrt) return one / sqrt(x);
  if constexpr (op == UnaryOp::reciprocal) return one / x;
  if constexpr (op == UnaryOp::square) return x * x;
  if constexpr (op == UnaryOp::sin) return sin(x);
  if constexpr (op == UnaryOp::cos) return cos(x);
  if constexpr (op == UnaryOp::erf) return erf(x);
  if constexpr (op == UnaryOp::clamp) {
    const Vec bounded = min(max(x, broadcast(bounds.low)), broadcast(bounds.high));
    return select(x == x, bounded, x);
  }
}

// dy * f'(x)
template <UnaryOp op>
PYMODEL_INLINE Vec apply_derivative(Vec dy, Vec x, const Bounds& bounds) {
  if constexpr (op == UnaryOp::neg) return -dy;
  if constexpr (op == UnaryOp::abs) return select(x > zero(), dy, select(x < zero(), -dy, zero()));
  if constexpr (op == UnaryOp::exp) return dy * exp(x);
  if constexpr (op == UnaryOp::log) return dy / x;
  if constexpr (op == UnaryOp::sqrt) return dy * 0.5f / sqrt(x);
  if constexpr (op == UnaryOp::rsqrt) return dy * -0.5f / (x * sqrt(x));
  if constexpr (op == UnaryOp::reciprocal) return -dy / (x * x);
  if constexpr (op == UnaryOp::square) return dy * (x + x);
  if constexpr (op == UnaryOp::sin) return dy * cos(x);
  if constexpr (op == UnaryOp::cos) return -dy * sin(x);
  if constexpr (op == UnaryOp::erf) return dy * exp(-x * x) * kTwoOverSqrtPi;
  if constexpr (op == UnaryOp::clamp) {
    const IntVec inside = (x >= broadcast(bounds.low)) & (x <= broadcast(bounds.high));
    return select(inside, dy, zero());
  }
}

// ---------------------------------------------------------------------------------------------
// Blocks

template <UnaryOp op>
static void forward_block(const float* x, float* out, int64_t count, const void* context) {
  const Bounds bounds = *static_cast<const Bounds*>(context);
  for_each_vector(count, [&](int64_t i, int64_t n) {
    store_lanes(out + i, apply<op>(load_lanes(x + i, n), bounds), n);
  });
}

template <UnaryOp op>
static void backward_block(const float* dy, const float* x, float* dx, int64_t count,
                           const void* context) {
  const Bounds bounds = *static_cast<const Bounds*>(context);
  for_each_vector(count, [&](int64_t i, int64_t n) {
    const Vec gradient = load_lanes(dy + i, n);
    store_lanes(dx + i, apply_derivative<op>(gradient, load_lanes(x + i, n), bounds), n);
  });
}

struct Blocks {
  UnaryBlock forward;
  GradientBlock backward;
};

static Blocks choose_blocks(UnaryOp op) {
#define PYMODEL_BLOCKS(name) \
  case UnaryOp::name:        \
    return {forward_block<UnaryOp::name>, backward_block<UnaryOp::name>};
  switch (op) {
    PYMODEL_BLOCKS(neg)
    PYMODEL_BLOCKS(abs)
    PYMODEL_BLOCKS(exp)
    PYMODEL_BLOCKS(log)
    PYMODEL_BLOCKS(sqrt)
    PYMODEL_BLOCKS(rsqrt)
    PYMODEL_BLOCKS(reciprocal)
    PYMODEL_BLOCKS(square)
    PYMODEL_BLOCKS(sin)
    PYMODEL_BLOCKS(cos)
    PYMODEL_BLOCKS(erf)
    PYMODEL_BLOCKS(clamp)
  }
#undef PYMODEL_BLOCKS
  return {};
}

}  // namespace

void unary(const UnaryArguments& args) {
  const Bounds bounds{args.low, args.high};
  map_floats(args.out, args.x, choose_blocks(args.op).forward, &bounds);
}

void unary_backward(const UnaryBackward& args) {
  const Bounds bounds{args.low, args.high};
  map_gradient(args.dx, args.dy, args.x, choose_blocks(args.op).backward, &bounds);
}

}  // namespace pymodel::cpu::PYMODEL_ISA
