// CPU softmax. Along a dense dimension a vector holds neighbouring classes of one slice; otherwise
// it holds one class of kLanes neighbouring slices, and no lane talks to another.
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/softmax_row.h"
#include "ops/softmax/softmax.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// Neighbouring slices: class c of the first one is at data + c * stride.
template <typename T>
struct Slices {
  T* data;
  int64_t stride;
};

template <typename T>
PYMODEL_INLINE T* class_of(Slices<T> slices, int64_t c) {
  return slices.data + c * slices.stride;
}

template <typename T>
PYMODEL_INLINE Slices<T> slices_of(const TensorView& view, int64_t outer, int64_t inner) {
  return {data_as<T>(view) + outer * view.strides[0] + inner * view.strides[2], view.strides[1]};
}

// Calls row(outer) for slices whose classes are dense, else slices(outer, inner, lanes).
template <typename Row, typename Lanes>
PYMODEL_INLINE void for_each_slice(const TensorView& x, const Row& row, const Lanes& lanes) {
  const int64_t outer = x.shape[0], classes = x.shape[1], inner = x.shape[2];
  const int64_t cost = 8 * outer * classes * inner;
  if (inner == 1) {
    parallel_chunks(outer, softmax_rows_per_task(classes), cost, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) row(o);
    });
    return;
  }
  const int64_t tiles = (inner + kLanes - 1) / kLanes;
  parallel_for(outer * tiles, cost, [&](int64_t task) {
    const int64_t first = task % tiles * kLanes;
    lanes(task / tiles, first, inner - first < kLanes ? inner - first : int64_t{kLanes});
  });
}

// ---------------------------------------------------------------------------------------------
// Forward

// What x - m is turned into by its slice.
struct Finish {
  Vec subtracted;  // log(s); infinity where all is -infinity and s is 0
  Vec factor;      // 1 / s, or 0

  explicit Finish(Vec sum)
      : subtracted(select(sum == zero(), infinity(), log(sum))),
        factor(select(sum == zero(), zero(), broadcast(1.0f) / sum)) {}

  Vec operator()(Vec centred, bool logarithm) const {
    return logarithm ? centred - subtracted : exp_bounded(centred) * factor;
  }
};

template <typename T>
static void forward_row(const T* x, T* y, int64_t classes, bool logarithm) {
  const SoftmaxRow row = softmax_row(x, classes);
  const Vec shift = broadcast(softmax_shift(row.maximum));
  const Finish finish(broadcast(row.sum));
  for_each_vector(classes, [&](int64_t i, int64_t n) {
    store_lanes(y + i, finish(load_lanes(x + i, n) - shift, logarithm), n);
  });
}

template <typename T>
static void forward_lanes(Slices<const T> x, Slices<T> y, int64_t classes, int64_t lanes,
                          bool logarithm) {
  Vec maximum = -infinity();
  for (int64_t c = 0; c < classes; ++c) maximum = max(load_lanes(class_of(x, c), lanes), maximum);
  const Vec shift = softmax_shift(maximum);
  const Finish finish(sum_of_steps(
      classes, [&](int64_t c) { return exp_bounded(load_lanes(class_of(x, c), lanes) - shift); }));
  for (int64_t c = 0; c < classes; ++c) {
    const Vec centred = load_lanes(class_of(x, c), lanes) - shift;
    store_lanes(class_of(y, c), finish(centred, logarithm), lanes);
  }
}

template <typename T>
static void forward(const SoftmaxForward& args) {
  const int64_t classes = args.x.shape[1];
  for_each_slice(
      args.x,
      [&](int64_t outer) {
        forward_row<T>(slices_of<const T>(args.x, outer, 0).data,
                       slices_of<T>(args.y, outer, 0).data, classes, args.logarithm);
      },
      [&](int64_t outer, int64_t inner, int64_t lanes) {
        forward_lanes<T>(slices_of<const T>(args.x, outer, inner),
                         slices_of<T>(args.y, outer, inner), classes, lanes, args.logarithm);
      });
}

// ---------------------------------------------------------------------------------------------
// Backward

// What is summed over a slice.
PYMODEL_INLINE Vec gradient_term(Vec dy, Vec y, bool logarithm) { return logarithm ? dy : dy * y; }

// `peak` is the maximum of y over the slice: -infinity only for a masked log_softmax (or NaN,
// which is kept).
PYMODEL_INLINE Vec gradient(Vec dy, Vec y, Vec total, Vec peak, bool logarithm) {
  if (!logarithm) return y * (dy - total);
  const IntVec masked = (peak == -infinity()) & (y == -infinity());
  return select(masked, zero(), dy - exp(y) * total);
}

template <typename T>
static void backward_row(const T* dy, const T* y, T* dx, int64_t classes, bool logarithm) {
  Vec lane_peak = -infinity();
  const Vec total = broadcast(sum_of_row(classes, [&](int64_t i, int64_t n) {
    lane_peak = max(load_logits(y + i, n), lane_peak);
    // dy and y are zero in the lanes beyond the row, so those add nothing.
    return gradient_term(load_lanes(dy + i, n), load_lanes(y + i, n), logarithm);
  }));
  const Vec peak = broadcast(max_lane(lane_peak));
  for_each_vector(classes, [&](int64_t i, int64_t n) {
    const Vec incoming = load_lanes(dy + i, n), value = load_lanes(y + i, n);
    store_lanes(dx + i, gradient(incoming, value, total, peak, logarithm), n);
  });
}

template <typename T>
static void backward_lanes(Slices<const T> dy, Slices<const T> y, Slices<T> dx, int64_t classes,
                           int64_t lanes, bool logarithm) {
  Vec peak = -infinity();
  const Vec total = sum_of_steps(classes, [&](int64_t c) {
    const Vec value = load_lanes(class_of(y, c), lanes);
    peak = max(value, peak);
    return gradient_term(load_lanes(class_of(dy, c), lanes), value, logarithm);
  });
  for (int64_t c = 0; c < classes; ++c) {
    const Vec incoming = load_lanes(class_of(dy, c), lanes),
              value = load_lanes(class_of(y, c), lanes);
    store_lanes(class_of(dx, c), gradient(incoming, value, total, peak, logarithm), lanes);
  }
}

template <typename T>
static void backward(const SoftmaxBackward& args) {
  const int64_t classes = args.y.shape[1];
  for_each_slice(
      args.y,
      [&](int64_t outer) {
        backward_row<T>(slices_of<const T>(args.dy, outer, 0).data,
                        slices_of<const T>(args.y, outer, 0).data,
                        slices_of<T>(args.dx, outer, 0).data, classes, args.logarithm);
      },
      [&](int64_t outer, int64_t inner, int64_t lanes) {
        backward_lanes<T>(slices_of<const T>(args.dy, outer, inner),
                          slices_of<const T>(args.y, outer, inner),
                          slices_of<T>(args.dx, outer, inner), classes, lanes, args.logarithm);
      });
}

}  // namespace

void softmax_forward(const SoftmaxForward& args) {
  dispatch_floating(args.x.dtype, [&](auto type) { forward<decltype(type)>(args); });
}

void softmax_backward(const SoftmaxBackward& args) {
  dispatch_floating(args.y.dtype, [&](auto type) { backward<decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
