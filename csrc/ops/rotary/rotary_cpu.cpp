// CPU rotary embeddings. A task is a stretch of tokens; the heads of a token share its angles,
// which stay in the first cache.
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops/rotary/rotary.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

constexpr int64_t kTokens = 16;  // of a task

static int64_t first_invalid(const Rotary& args) {
  const int64_t batch = args.x.shape[0], length = args.x.shape[1];
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) {
      const int64_t position = position_of(args, b, t);
      if (position < 0 || position >= args.cos.shape[0]) return b * length + t;
    }
  }
  return -1;
}

// x, y (2 half); cos, sin (half). Pairs are read before either element is written: y may be x.
template <typename T>
PYMODEL_INLINE void turn_halves(const T* x, T* y, const float* cos, const float* sin, float sign,
                                int64_t half) {
  for_each_vector(half, [&](int64_t i, int64_t n) {
    const Vec c = load_lanes(cos + i, n), s = load_lanes(sin + i, n) * broadcast(sign);
    const Vec first = load_lanes(x + i, n), second = load_lanes(x + half + i, n);
    store_lanes(y + i, fma(first, c, -(second * s)), n);
    store_lanes(y + half + i, fma(second, c, first * s), n);
  });
}

template <typename T>
PYMODEL_INLINE void turn_neighbours(const T* x, T* y, const float* cos, const float* sin,
                                    float sign, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float c = cos[i], s = sin[i] * sign;
    const float first = to_float(x[2 * i]), second = to_float(x[2 * i + 1]);
    from_float(first * c - second * s, y + 2 * i);
    from_float(second * c + first * s, y + 2 * i + 1);
  }
}

template <typename T>
static void turn_token(const Rotary& args, int64_t batch, int64_t token) {
  const int64_t heads = args.x.shape[2], head_dim = args.x.shape[3], half = args.cos.shape[1];
  const int64_t position = position_of(args, batch, token);
  const float* cos = data_as<float>(args.cos) + position * args.cos.strides[0];
  const float* sin = data_as<float>(args.sin) + position * args.sin.strides[0];
  const float sign = args.opposite ? -1.0f : 1.0f;
  const T* x = data_as<T>(args.x) + batch * args.x.strides[0] + token * args.x.strides[1];
  T* y = data_as<T>(args.y) + batch * args.y.strides[0] + token * args.y.strides[1];
  for (int64_t head = 0; head < heads; ++head) {
    if (args.interleaved) {
      turn_neighbours(x, y, cos, sin, sign, half);
    } else {
      turn_halves(x, y, cos, sin, sign, half);
    }
    if (x != y) {
      memcpy(y + 2 * half, x + 2 * half, static_cast<size_t>(head_dim - 2 * half) * sizeof(T));
    }
    x += args.x.strides[2];
    y += args.y.strides[2];
  }
}

}  // namespace

void rotary(const Rotary& args) {
  *args.invalid = first_invalid(args);
  if (*args.invalid >= 0) return;
  const int64_t length = args.x.shape[1], tokens = args.x.shape[0] * length;
  dispatch_floating(args.x.dtype, [&](auto type) {
    parallel_chunks(tokens, kTokens, numel(args.x), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        turn_token<decltype(type)>(args, i / length, i % length);
      }
    });
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
