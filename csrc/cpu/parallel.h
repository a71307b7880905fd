// Threads for CPU kernels.
//
// A kernel cuts its work into tasks by shape alone, never by the number of threads, and each
// task writes results of its own: so the bits do not depend on how many threads there are.
#pragma once

#include <omp.h>
#include <stdint.h>

#include "cpu/isa.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Below this many elementary operations, waking the other threads costs more than it saves.
constexpr int64_t kSerialCost = 32768;

// Calls body(task) for every task of [0, tasks); `cost` is the elementary operations of all.
template <typename Body>
PYMODEL_INLINE void parallel_for(int64_t tasks, int64_t cost, const Body& body) {
  if (tasks == 1 || cost < kSerialCost) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < tasks; ++task) body(task);
}

// The same for tasks of unequal length, which are handed out one at a time.
template <typename Body>
PYMODEL_INLINE void parallel_for_dynamic(int64_t tasks, int64_t cost, const Body& body) {
  if (tasks == 1 || cost < kSerialCost) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t task = 0; task < tasks; ++task) body(task);
}

// Splits [0, count) into chunks of `chunk` elements: body(begin, end).
template <typename Body>
PYMODEL_INLINE void parallel_chunks(int64_t count, int64_t chunk, int64_t cost, const Body& body) {
  parallel_for((count + chunk - 1) / chunk, cost, [&](int64_t task) {
    const int64_t begin = task * chunk;
    body(begin, begin + chunk < count ? begin + chunk : count);
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
