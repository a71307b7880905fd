// CPU cross-entropy: logits are read from memory once forward, and once backward where the gradient
// is written in the same pass; or once for both.
#include "core/integers.h"
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/softmax_row.h"
#include "ops/cross_entropy/cross_entropy.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
PYMODEL_INLINE T* row_of(const TensorView& view, int64_t row) {
  return data_as<T>(view) + row * view.strides[0];
}

// ---------------------------------------------------------------------------------------------
// Loss

// mean(x) - m, summed about m so that large logits do not cancel.
template <typename T>
static float mean_below_maximum(const T* x, int64_t classes, float maximum) {
  const float total = sum_of_row(
      classes, [&](int64_t i, int64_t n) { return keep_lanes(load_lanes(x + i, n) - maximum, n); });
  return total / static_cast<float>(classes);
}

template <typename T>
static float loss_of_row(const CrossEntropyForward& args, int64_t row, int64_t target) {
  const T* x = row_of<T>(args.logits, row);
  const int64_t classes = args.logits.shape[1];
  const SoftmaxRow softmax = softmax_row(x, classes);
  float* statistics = row_of<float>(args.statistics, row);
  statistics[0] = softmax.maximum;
  statistics[1] = softmax.sum;
  if (softmax.sum == 0.0f) return __builtin_inff();
  const float smoothing = args.label_smoothing;
  // Shares of zero are left out: zero times the -infinity of a masked logit would be NaN.
  float score = 0.0f;
  if (smoothing < 1.0f) score += (1.0f - smoothing) * (to_float(x[target]) - softmax.maximum);
  if (smoothing > 0.0f) score += smoothing * mean_below_maximum(x, classes, softmax.maximum);
  return log(broadcast(softmax.sum))[0] - score;
}

// The number of rows that count, or -1 after noting the first row whose target is no class.
static int64_t count_rows(const CrossEntropyForward& args) {
  const int64_t rows = args.logits.shape[0], classes = args.logits.shape[1];
  int64_t counted = 0;
  *args.invalid_row = -1;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t target = integer_at(args.targets, row);
    if (target == args.ignore_index) continue;
    ++counted;
    if (target >= 0 && target < classes) continue;
    *args.invalid_row = row;
    return -1;
  }
  return counted;
}

// ---------------------------------------------------------------------------------------------
// Gradient

template <typename T>
static void zero_row(T* dx, int64_t classes) {
  for_each_vector(classes, [&](int64_t i, int64_t n) { store_lanes(dx + i, zero(), n); });
}

// Every element of x is read before dx, which may share its memory, is written there.
template <typename T>
static void backward_row(const CrossEntropyBackward& args, int64_t row, int64_t target,
                         bool streaming) {
  const T* x = row_of<T>(args.logits, row);
  T* dx = row_of<T>(args.dlogits, row);
  const int64_t classes = args.logits.shape[1];
  const float maximum = row_of<float>(args.statistics, row)[0];
  const float total = row_of<float>(args.statistics, row)[1];
  if (total == 0.0f) return zero_row(dx, classes);
  const float scale = *data_as<float>(args.scale) * row_of<float>(args.dlosses, row)[0];
  const float smoothing = args.label_smoothing;
  const Vec factor = broadcast(scale / total);
  const Vec shared = broadcast(scale * smoothing / static_cast<float>(classes));
  // The target's own share, computed from its logit because rounding dx twice would show.
  const Vec probability = exp_bounded(broadcast(to_float(x[target]) - maximum)) * (1.0f / total);
  const float own =
      (probability[0] - (1.0f - smoothing) - smoothing / static_cast<float>(classes)) * scale;
  write_row(dx, classes, streaming, [&](int64_t i, int64_t n) {
    return fma(exp_bounded(load_lanes(x + i, n) - maximum), factor, -shared);
  });
  from_float(own, dx + target);
}

template <typename T>
static void gradient_row(const CrossEntropyBackward& args, int64_t row, int64_t target,
                         bool streaming) {
  if (target == args.ignore_index) {
    zero_row(row_of<T>(args.dlogits, row), args.logits.shape[1]);
  } else {
    backward_row<T>(args, row, target, streaming);
  }
}

// Whether the gradient bypasses the cache; over its own logits it finds their cache lines at hand.
template <typename T>
static bool streams(const CrossEntropyBackward& args) {
  return args.dlogits.data != args.logits.data &&
         numel(args.logits) * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
}

// ---------------------------------------------------------------------------------------------
// Kernels

template <typename T>
static void forward(const CrossEntropyForward& args) {
  const int64_t counted = count_rows(args);
  if (counted < 0) return;
  const int64_t rows = args.logits.shape[0], classes = args.logits.shape[1];
  const double divisor = args.mean ? static_cast<double>(counted) : 1.0;
  *data_as<float>(args.scale) = divisor > 0.0 ? static_cast<float>(1.0 / divisor) : 0.0f;
  float* losses = data_as<float>(args.losses);
  const bool with_gradient = args.dlogits.data != nullptr;
  const CrossEntropyBackward gradient = cross_entropy_gradient(args);
  const bool streaming = with_gradient && streams<T>(gradient);
  const int64_t chunk = softmax_rows_per_task(classes);
  const int64_t cost = (with_gradient ? 16 : 8) * rows * classes;
  parallel_chunks(rows, chunk, cost, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t target = integer_at(args.targets, row);
      losses[row] = target == args.ignore_index ? 0.0f : loss_of_row<T>(args, row, target);
      if (with_gradient) gradient_row<T>(gradient, row, target, streaming);
    }
    if (streaming) finish_streaming();
  });
  // One thread, in double precision: rows are few beside rows * classes, and the order is fixed.
  double total = 0.0;
  for (int64_t row = 0; row < rows; ++row) total += double{losses[row]};
  *data_as<float>(args.total) = divisor > 0.0 ? static_cast<float>(total / divisor) : 0.0f;
}

template <typename T>
static void backward(const CrossEntropyBackward& args) {
  const int64_t rows = args.logits.shape[0], classes = args.logits.shape[1];
  const int64_t chunk = softmax_rows_per_task(classes);
  const bool streaming = streams<T>(args);
  parallel_chunks(rows, chunk, 8 * rows * classes, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      gradient_row<T>(args, row, integer_at(args.targets, row), streaming);
    }
    if (streaming) finish_streaming();
  });
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForward& args) {
  dispatch_floating(args.logits.dtype, [&](auto type) { forward<decltype(type)>(args); });
}

void cross_entropy_backward(const CrossEntropyBackward& args) {
  dispatch_floating(args.logits.dtype, [&](auto type) { backward<decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
