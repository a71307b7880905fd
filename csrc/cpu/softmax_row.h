// The maximum of a row and the sum of its exponentials in one pass, for softmax and cross-entropy.
//
// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867.
#pragma once

#include "cpu/math.h"

namespace pymodel::cpu::PYMODEL_ISA {

struct SoftmaxRow {
  float maximum;  // -infinity for a row without a finite entry
  float sum;      // of exp(x - maximum), at least 1; 0 for a row of -infinity
};

// What is subtracted before exp: the maximum, or 0 where that is -infinity, so that -infinity
// becomes exp(-infinity) = 0 and not exp(NaN).
PYMODEL_INLINE Vec softmax_shift(Vec maximum) {
  return select(maximum == -infinity(), zero(), maximum);
}
PYMODEL_INLINE float softmax_shift(float maximum) {
  return maximum == -__builtin_inff() ? 0.0f : maximum;
}

// Like load_lanes, with -infinity in the lanes from `count` on: they are no maximum and add
// nothing.
template <typename T>
PYMODEL_INLINE Vec load_logits(const T* p, int64_t count) {
  if (count == kLanes) return load(p);
  return select(lane_numbers() < static_cast<int32_t>(count), load_partial(p, count), -infinity());
}

// max(start, x), lane by lane; four running maxima hide the latency of each. max() drops a NaN in
// its first argument: it shows up in the sum.
template <typename T>
PYMODEL_INLINE Vec lane_maximum(const T* x, int64_t count, Vec start) {
  Vec peaks[4] = {start, start, start, start};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) peaks[v] = max(load(x + i + v * kLanes), peaks[v]);
  }
  for (; i < count; i += kLanes) {
    peaks[0] = max(load_logits(x + i, count - i < kLanes ? count - i : kLanes), peaks[0]);
  }
  return max(max(peaks[0], peaks[1]), max(peaks[2], peaks[3]));
}

constexpr int64_t kSoftmaxBlock = 64 * kLanes;  // elements

// x (count). Blocks that fit the first-level cache are read twice: for their maximum, then for the
// sum about the largest maximum so far. Sums of blocks are kept apart until a block is done, which
// also bounds the rounding of a long row. With `keeps`, exponentials (count, and the rest of the
// last vector) are kept as they were computed, and in shifts (blocks, kLanes) what each lane of a
// block was lowered by.
template <bool keeps = false, typename T>
PYMODEL_INLINE SoftmaxRow softmax_row(const T* x, int64_t count, float* exponentials = nullptr,
                                      float* shifts = nullptr) {
  Vec maximum = -infinity(), total = zero();
  for (int64_t begin = 0; begin < count; begin += kSoftmaxBlock) {
    const int64_t length = count - begin < kSoftmaxBlock ? count - begin : kSoftmaxBlock;
    const T* block = x + begin;
    const Vec peak = lane_maximum(block, length, maximum);
    const Vec shift = softmax_shift(peak);
    Vec sum_of_block = zero();
    for_each_vector(length, [&](int64_t i, int64_t n) {
      const Vec exponential = exp_bounded(load_logits(block + i, n) - shift);
      if constexpr (keeps) store(exponentials + begin + i, exponential);
      sum_of_block += exponential;
    });
    if constexpr (keeps) store(shifts + begin / kSoftmaxBlock * kLanes, shift);
    total = fma(total, exp_bounded(maximum - shift), sum_of_block);
    maximum = peak;
  }
  const float peak = max_lane(maximum);
  return {peak, sum(total * exp_bounded(maximum - softmax_shift(peak)))};
}

// term(0) + ... + term(steps - 1), lane by lane: plainly within blocks of 64, which are added with
// compensation (Kahan), because the terms of a gradient cancel and a vocabulary is a long row.
template <typename Term>
PYMODEL_INLINE Vec sum_of_steps(int64_t steps, const Term& term) {
  Vec total = zero(), excess = zero();
  for (int64_t begin = 0; begin < steps; begin += 64) {
    const int64_t end = begin + 64 < steps ? begin + 64 : steps;
    Vec block = zero();
    for (int64_t step = begin; step < end; ++step) block += term(step);
    const Vec addend = block - excess;
    const Vec next = total + addend;
    // An infinite sum is kept: infinity - infinity would turn it into NaN.
    excess = select(abs(next) == infinity(), zero(), (next - total) - addend);
    total = next;
  }
  return total;
}

// The same along a row: the sum of term(first element, lanes in use), whose other lanes are zero.
template <typename Term>
PYMODEL_INLINE float sum_of_row(int64_t count, const Term& term) {
  return sum(sum_of_steps((count + kLanes - 1) / kLanes, [&](int64_t step) {
    const int64_t i = step * kLanes;
    return term(i, count - i < kLanes ? count - i : int64_t{kLanes});
  }));
}

// Rows that one task takes, from the shape alone, so that a task is worth handing out.
PYMODEL_INLINE int64_t softmax_rows_per_task(int64_t columns) {
  constexpr int64_t kElements = 8192;
  return columns >= kElements ? 1 : kElements / (columns + 1) + 1;
}

}  // namespace pymodel::cpu::PYMODEL_ISA
