// What hides the latency of memory from the attention kernels.
//
// A head's rows are short and far apart, so the hardware does not foresee them, and the caches take
// about as long to bring them as the products take to use them. So while one tile of scores is
// worked on, the rows that come next, those of results above all, are fetched a few lines at a
// time; and a task is several heads that lie side by side, so that threads do not share pages or
// neighbouring lines, and the next head is known.
#pragma once

#include "ops/attention/attention_tile.h"

namespace pymodel::cpu::PYMODEL_ISA {

class RowsAhead {
 public:
  // Rows row to row + count - 1 of one head, if there is such a tensor. It may be left out: what is
  // not fetched ahead is only later.
  template <typename T>
  void add(const TensorView& view, int64_t batch, int64_t row, int64_t head, int64_t count) {
    if (view.data == nullptr || count <= 0) return;
    if (next_ == added_) next_ = added_ = 0;
    if (added_ == kMost) return;
    constexpr int64_t kBytes = sizeof(T);
    runs_[added_++] = {reinterpret_cast<const char*>(vector_at<T>(view, batch, row, head)),
                       view.strides[1] * kBytes, view.shape[3] * kBytes, 0, count};
  }

  // The next few lines, as many as can be under way while two vectors of scores are worked on.
  __attribute__((always_inline)) void fetch() {
    if (next_ < added_) fetch_lines();
  }

 private:
  static constexpr int kMost = 12, kLines = 4;
  static constexpr int64_t kLineBytes = 64;

  struct Run {
    const char* row;
    int64_t stride, bytes;  // from row to row, and of each
    int64_t done;           // bytes of the row
    int64_t count;          // rows that are left
  };

  // Not inline, lest the loops around it become too long.
  __attribute__((noinline)) void fetch_lines() {
    for (int i = 0; i < kLines && next_ < added_; ++i) {
      Run& run = runs_[next_];
      __builtin_prefetch(run.row + run.done);
      run.done += kLineBytes;
      if (run.done < run.bytes) continue;
      run.done = 0;
      run.row += run.stride;
      if (--run.count == 0) ++next_;
    }
  }

  Run runs_[kMost];
  int added_ = 0, next_ = 0;
};

// Heads that a task takes one after the other: all of a sequence, or as many as leave several tasks
// for each thread. What is computed for a head is cut by shape alone: who computes it bears on no
// result.
static inline int64_t heads_per_task(int64_t sequences, int64_t heads) {
  constexpr int64_t kTasksPerThread = 4;
  const int64_t tasks = kTasksPerThread * omp_get_max_threads();
  const int64_t parts = clamp((tasks + sequences - 1) / larger(1, sequences), 1, larger(1, heads));
  return larger(1, (heads + parts - 1) / parts);
}

}  // namespace pymodel::cpu::PYMODEL_ISA
