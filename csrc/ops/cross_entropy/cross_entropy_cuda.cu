// CUDA cross-entropy. Forward reads the logits once: the maximum, the sum of exponentials and the
// mean of a row are found in one pass. Backward reads and writes them once. A warp takes a short
// row, a block a long one.
//
// A row whose target is no class is reported and does no harm: its loss is NaN, its gradient zero.
#include "core/integers.h"
#include "cuda/launch.h"
#include "cuda/softmax_row.cuh"
#include "ops/cross_entropy/cross_entropy.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kRowThreads = 512;     // at most, for one row
constexpr int kShare = 32;           // elements of a row for each of them, while they suffice
constexpr int kTotalThreads = 1024;  // at most, of the one block that sums the losses

template <typename T>
__device__ __forceinline__ T* row_of(const TensorView& view, int64_t row) {
  return data_as<T>(view) + row * view.strides[0];
}

__device__ __forceinline__ bool is_class(int64_t target, int64_t classes) {
  return target >= 0 && target < classes;
}

// ---------------------------------------------------------------------------------------------
// Forward kernels

// The loss of a row with these statistics, target's logit and mean(x) - m.
__device__ __forceinline__ float loss_of_row(SoftmaxSum softmax, float target_logit,
                                             float mean_below_maximum, float smoothing) {
  if (softmax.sum == 0.0f) return INFINITY;
  // Shares of zero are left out: zero times the -infinity of a masked logit would be NaN.
  float score = 0.0f;
  if (smoothing < 1.0f) score += (1.0f - smoothing) * (target_logit - softmax.maximum);
  if (smoothing > 0.0f) score += smoothing * mean_below_maximum;
  return logf(softmax.sum) - score;
}

// Losses and statistics of all rows.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_row_kernel(__grid_constant__ const CrossEntropyForward args) {
  __shared__ float scratch[kWarp];
  const int64_t row = own_row(), classes = args.logits.shape[1];
  if (row >= args.logits.shape[0]) return;
  const int64_t target = integer_at(args.targets, row);
  float* loss = data_as<float>(args.losses) + row;
  if (target == args.ignore_index || !is_class(target, classes)) {
    if (threadIdx.x != 0) return;
    if (target != args.ignore_index) report_fault(args.invalid_row, row);
    *loss = target == args.ignore_index ? 0.0f : NAN;
    return;
  }

  const T* logits = row_of<const T>(args.logits, row);
  const float target_logit = to_float(logits[target]);
  // The mean is summed about a logit of the row: large ones would cancel against m, which is known
  // only at the end.
  const float pivot = isinf(target_logit) ? 0.0f : target_logit;
  const bool smoothed = args.label_smoothing > 0.0f;
  float above_pivot = 0.0f;
  const SoftmaxSum softmax =
      softmax_sum(Row<const T>{logits, classes}, scratch, [&](const float* values, int64_t column) {
        if (!smoothed) return;
#pragma unroll
        for (int i = 0; i < kVectorLength<T>; ++i) {
          if (is_class(column + i, classes)) above_pivot += values[i] - pivot;
        }
      });
  if (smoothed) above_pivot = block_sum(above_pivot, scratch);
  if (threadIdx.x != 0) return;
  const float mean = above_pivot / static_cast<float>(classes) + (pivot - softmax.maximum);
  float* statistics = row_of<float>(args.statistics, row);
  statistics[0] = softmax.maximum;
  statistics[1] = softmax.sum;
  *loss = loss_of_row(softmax, target_logit, mean, args.label_smoothing);
}

// One block, in double precision: rows are few beside rows * classes, and the order is fixed.
__global__ void __launch_bounds__(kTotalThreads)
    cross_entropy_total_kernel(__grid_constant__ const CrossEntropyForward args) {
  __shared__ double scratch[kWarp];
  const int64_t rows = args.logits.shape[0];
  const float* losses = data_as<float>(args.losses);
  double counted = 0.0, total = 0.0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) {
    counted += integer_at(args.targets, row) == args.ignore_index ? 0.0 : 1.0;
    total += static_cast<double>(losses[row]);
  }
  counted = block_sum(counted, scratch);
  total = block_sum(total, scratch);
  if (threadIdx.x != 0) return;
  const double divisor = args.mean ? counted : 1.0;
  *data_as<float>(args.scale) = divisor > 0.0 ? static_cast<float>(1.0 / divisor) : 0.0f;
  *data_as<float>(args.total) = divisor > 0.0 ? static_cast<float>(total / divisor) : 0.0f;
}

// ---------------------------------------------------------------------------------------------
// Backward kernel

// Each pack is read before it is written, by the same thread: dlogits may be the logits.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_gradient_kernel(__grid_constant__ const CrossEntropyBackward args) {
  constexpr int V = kVectorLength<T>;
  const int64_t row = own_row(), classes = args.logits.shape[1];
  if (row >= args.logits.shape[0]) return;
  const int64_t target = integer_at(args.targets, row);
  const bool valid = target != args.ignore_index && is_class(target, classes);
  const float maximum = row_of<float>(args.statistics, row)[0];
  const float total = row_of<float>(args.statistics, row)[1];
  const bool counts = valid && total != 0.0f;

  const float scale = *data_as<float>(args.scale) * row_of<float>(args.dlosses, row)[0];
  const float smoothing = args.label_smoothing;
  const float even_share = smoothing / static_cast<float>(classes);
  const float inverse = 1.0f / total, factor = scale * inverse, shared = scale * even_share;
  T* gradients = row_of<T>(args.dlogits, row);
  const int lead = lead_of(gradients);
  const Row<T> to{gradients, classes, lead};
  const Row<const T> from{row_of<const T>(args.logits, row), classes, lead};
  const int64_t packs = pack_count(to);
  for (int64_t pack = threadIdx.x; pack < packs; pack += blockDim.x) {
    float values[V] = {};
    if (counts) {
      load_pack(from, pack, -INFINITY, values);
      const int64_t column = first_column(from, pack);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const float exponential = expf(values[i] - maximum);
        // The target's own share is worked out before the scale, where its terms may cancel.
        const float own = (exponential * inverse - (1.0f - smoothing) - even_share) * scale;
        values[i] = column + i == target ? own : fmaf(exponential, factor, -shared);
      }
    }
    store_pack(to, pack, values);
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T>
void losses(const CrossEntropyForward& args, const Launch& launch) {
  const int64_t rows = args.logits.shape[0];
  const dim3 block = block_for_row(args.logits.shape[1], kShare, kRowThreads);
  launch(cross_entropy_row_kernel<T>, blocks_for(rows, block.y), block, 0, args);
}

template <typename T>
void gradients(const CrossEntropyBackward& args, const Launch& launch) {
  const int64_t rows = args.logits.shape[0];
  const dim3 block = block_for_row(args.logits.shape[1], kShare, kRowThreads);
  launch(cross_entropy_gradient_kernel<T>, blocks_for(rows, block.y), block, 0, args);
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForward& args, const Execution& on) {
  const Launch launch("cross_entropy", on, {&args.logits, &args.targets});
  dispatch_floating(args.logits.dtype, [&](auto type) { losses<decltype(type)>(args, launch); });
  // Without any row too: the total is 0 then. One warp suffices for as few rows.
  const dim3 block = block_for_row(args.logits.shape[0], 1, kTotalThreads);
  launch(cross_entropy_total_kernel, 1, dim3(block.x), 0, args);
  if (args.dlogits.data != nullptr) cross_entropy_backward(cross_entropy_gradient(args), on);
}

void cross_entropy_backward(const CrossEntropyBackward& args, const Execution& on) {
  const Launch launch("cross_entropy backward", on, {&args.logits, &args.targets});
  dispatch_floating(args.logits.dtype, [&](auto type) { gradients<decltype(type)>(args, launch); });
}

}  // namespace pymodel::PYMODEL_BACKEND
