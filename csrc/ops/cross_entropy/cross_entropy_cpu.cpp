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
static float loss_of_row(const CrossEntropyForward& args, int64_t row, int64_t target,
                         const SoftmaxRow& softmax) {
  const T* x = row_of<T>(args.logits, row);
  const int64_t classes = args.logits.shape[1];
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

// dx = exp(x - m) * factor - shared, and `own` for the target.
struct RowGradient {
  Vec factor, shared;
  float own;
};

template <typename T>
static RowGradient row_gradient(const CrossEntropyBackward& args, int64_t row, int64_t target) {
  const float classes = static_cast<float>(args.logits.shape[1]);
  const float maximum = row_of<float>(args.statistics, row)[0];
  const float total = row_of<float>(args.statistics, row)[1];
  const float scale = *data_as<float>(args.scale) * row_of<float>(args.dlosses, row)[0];
  const float smoothing = args.label_smoothing;
  // The target's own share, computed from its logit because rounding dx twice would show.
  const float logit = to_float(row_of<T>(args.logits, row)[target]);
  const Vec probability = exp_bounded(broadcast(logit - maximum)) * (1.0f / total);
  const float own = (probability[0] - (1.0f - smoothing) - smoothing / classes) * scale;
  return {broadcast(scale / total), broadcast(scale * smoothing / classes), own};
}

// Whether a row has a gradient: it counts, and is not all -infinity.
static bool has_gradient(const CrossEntropyBackward& args, int64_t row, int64_t target) {
  return target != args.ignore_index && row_of<float>(args.statistics, row)[1] != 0.0f;
}

// Every element of x is read before dx, which may share its memory, is written there.
template <typename T>
static void backward_row(const CrossEntropyBackward& args, int64_t row, int64_t target,
                         bool streaming) {
  const T* x = row_of<T>(args.logits, row);
  T* dx = row_of<T>(args.dlogits, row);
  const int64_t classes = args.logits.shape[1];
  if (!has_gradient(args, row, target)) return zero_row(dx, classes);
  const RowGradient gradient = row_gradient<T>(args, row, target);
  const float maximum = row_of<float>(args.statistics, row)[0];
  write_row(dx, classes, streaming, [&](int64_t i, int64_t n) {
    return fma(exp_bounded(load_lanes(x + i, n) - maximum), gradient.factor, -gradient.shared);
  });
  from_float(gradient.own, dx + target);
}

// The same from what softmax_row kept.
template <typename T>
static void backward_row_from(const float* exponentials, const float* shifts,
                              const CrossEntropyBackward& args, int64_t row, int64_t target) {
  T* dx = row_of<T>(args.dlogits, row);
  const int64_t classes = args.logits.shape[1];
  if (!has_gradient(args, row, target)) return zero_row(dx, classes);
  const RowGradient gradient = row_gradient<T>(args, row, target);
  const float maximum = row_of<float>(args.statistics, row)[0];
  for (int64_t begin = 0; begin < classes; begin += kSoftmaxBlock) {
    const int64_t left = classes - begin;
    const Vec shift = load(shifts + begin / kSoftmaxBlock * kLanes);
    const Vec factor = exp_bounded(shift - maximum) * gradient.factor;
    for_each_vector(left < kSoftmaxBlock ? left : kSoftmaxBlock, [&](int64_t i, int64_t n) {
      store_lanes(dx + begin + i, fma(load(exponentials + begin + i), factor, -gradient.shared), n);
    });
  }
  from_float(gradient.own, dx + target);
}

// ---------------------------------------------------------------------------------------------
// Kernels

// The loss of a row, and its gradient where that is wanted.
template <typename T>
static float forward_row(const CrossEntropyForward& args, int64_t row, int64_t target) {
  const T* x = row_of<T>(args.logits, row);
  const int64_t classes = args.logits.shape[1];
  if (args.dlogits.data == nullptr) {
    return loss_of_row<T>(args, row, target, softmax_row(x, classes));
  }
  float* const exponentials = static_cast<float*>(args.workspace) +
                              omp_get_thread_num() * cross_entropy_row_floats(classes);
  float* const shifts = exponentials + (classes + 15) / 16 * 16;
  const SoftmaxRow softmax = softmax_row<true>(x, classes, exponentials, shifts);
  const float loss = loss_of_row<T>(args, row, target, softmax);
  backward_row_from<T>(exponentials, shifts, cross_entropy_gradient(args), row, target);
  return loss;
}

template <typename T>
static void forward(const CrossEntropyForward& args) {
  const int64_t counted = count_rows(args);
  if (counted < 0) return;
  const int64_t rows = args.logits.shape[0], classes = args.logits.shape[1];
  const double divisor = args.mean ? static_cast<double>(counted) : 1.0;
  *data_as<float>(args.scale) = divisor > 0.0 ? static_cast<float>(1.0 / divisor) : 0.0f;
  float* losses = data_as<float>(args.losses);
  const int64_t chunk = softmax_rows_per_task(classes);
  parallel_chunks(rows, chunk, 8 * rows * classes, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t target = integer_at(args.targets, row);
      const bool counts = target != args.ignore_index;
      losses[row] = counts ? forward_row<T>(args, row, target) : 0.0f;
      if (!counts && args.dlogits.data != nullptr) zero_row(row_of<T>(args.dlogits, row), classes);
    }
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
  // A gradient over its own logits finds their cache lines at hand.
  const bool streaming = args.dlogits.data != args.logits.data &&
                         rows * classes * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  parallel_chunks(rows, chunk, 8 * rows * classes, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      backward_row<T>(args, row, integer_at(args.targets, row), streaming);
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
