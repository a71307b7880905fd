#include "simt/block.h"

#include <exception>

#include "simt/barrier.h"
#include "simt/collective.h"
#include "simt/report.h"

namespace pymodel::simt {

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

}  // namespace pymodel::simt

namespace pymodel::simt::emulator {

Block block;

namespace {

void fibre_main();

// Polling threads get their turn. A kernel in which nothing else happens for this many rounds
// waits for something that does not come.
void wake_polite() {
  constexpr int kMaxIdleRounds = 10000;
  for (int warp = 0; warp < block.warp_count; ++warp) {
    const uint32_t lanes = block.warps[warp].polite;
    block.warps[warp].polite = 0;
    if (lanes != 0) wake(warp, lanes);
  }
  if (block.runnable == 0) fail("deadlock: no thread of the block can go on");
  if (++block.idle_rounds > kMaxIdleRounds) fail("livelock: threads poll, and nobody else can run");
}

// Begins a warp's turn after that of `index`; null when all threads have ended. Threads that all
// wait are a deadlock.
__attribute__((noinline)) Warp* next_turn(int index) {
  if (block.warps[index].woken == 0) block.runnable &= ~(1u << index);
  if (block.runnable == 0) {
    if (block.live == 0) return nullptr;
    wake_polite();
  }
  Warp& warp = block.warps[block.scheduler.choose_warp(block.runnable, index)];
  warp.ready = warp.woken;
  warp.woken = 0;
  return &warp;
}

// The thread that runs next; null when all have ended.
inline Thread* choose_thread() {
  const int index = block.current->warp;
  Warp* warp = &block.warps[index];
  if (warp->ready == 0) {
    warp = next_turn(index);
    if (warp == nullptr) return nullptr;
  }
  const int lane = block.scheduler.choose_lane(warp->ready);
  warp->ready &= ~(1u << lane);
  return &thread_at(static_cast<int>(warp - block.warps), lane);
}

inline void make_current(Thread& thread) {
  block.current = &thread;
  threadIdx = thread.index;
}

__attribute__((noinline)) void give_stack(Thread& thread) {
  thread.stack = take_stack();
  prepare(thread.context, thread.stack.bottom, thread.stack.bytes, fibre_main);
}

inline void run(Thread& thread) {
  if (thread.stack.bottom == nullptr) give_stack(thread);
  make_current(thread);
}

void end_thread(Thread& thread) {
  Warp& warp = block.warps[thread.warp];
  warp.ended |= 1u << thread.lane;
  --block.live;
  thread.copies.clear();
  if (warp.at_collective != 0) check_ended_lane(thread);
  barrier_lost_thread();
}

// Unwinds the thread that has failed, so that the texts of its report are freed.
struct Failure {};

void record_failure(const std::string& problem) {
  block.failed = true;
  block.report = failure_report(problem);
}

// Runs threads on one stack as long as the next one is new. Returns whom to switch to: a thread
// that waits on a stack of its own, or the host.
Context& run_threads() {
  for (;;) {
    Thread& thread = *block.current;
    block.body(block.body_argument);
    end_thread(thread);
    Thread* next = choose_thread();
    if (next != nullptr && next->stack.bottom == nullptr) {
      next->stack = thread.stack;
      next->context = thread.context;
      thread.stack = {};
      make_current(*next);
      continue;
    }
    return_stack(thread.stack);
    thread.stack = {};
    if (next == nullptr) return block.host;
    make_current(*next);
    return next->context;
  }
}

// Life of a stack. The switch stands outside the handlers: an exception under way belongs to the
// OS thread, not to the fibre.
void fibre_main() {
  arrived();
  Context* next = &block.host;
  try {
    next = &run_threads();
  } catch (const Failure&) {
  } catch (const std::exception& error) {
    record_failure(std::string("exception: ") + error.what());
  }
  leave_context(*next);
}

void reset_threads() {
  block.failed = false;
  block.live = block.thread_count;
  block.runnable = 0;
  block.idle_rounds = 0;
  for (int warp = 0; warp < block.warp_count; ++warp) {
    const int rest = block.thread_count - warp * kWarpSize;
    const uint32_t lanes = rest >= kWarpSize ? ~0u : (1u << rest) - 1;
    Warp& fresh = block.warps[warp];
    fresh.lanes = lanes;
    fresh.ready = fresh.woken = fresh.ended = fresh.polite = fresh.at_collective = 0;
    wake(warp, lanes);
  }
  reset_barriers();
}

void abandon_threads() {
  for (int i = 0; i < block.thread_count; ++i) {
    Thread& thread = block.threads[i];
    if (thread.stack.bottom != nullptr) return_stack(thread.stack);
    thread.stack = {};
    thread.wait = Wait::nothing;
    thread.copies.clear();
  }
}

}  // namespace

void shape_block(dim3 size) {
  block.thread_count = static_cast<int>(size.x * size.y * size.z);
  block.warp_count = (block.thread_count + kWarpSize - 1) / kWarpSize;
  unsigned i = 0;
  for (unsigned z = 0; z < size.z; ++z) {
    for (unsigned y = 0; y < size.y; ++y) {
      for (unsigned x = 0; x < size.x; ++x, ++i) {
        Thread& thread = block.threads[i];
        thread.index = {x, y, z};
        thread.warp = static_cast<uint8_t>(i / kWarpSize);
        thread.lane = static_cast<uint8_t>(i % kWarpSize);
      }
    }
  }
}

bool run_block() {
  reset_threads();
  block.scheduler.begin_block(block.warp_count);
  block.current = &block.threads[0];
  Thread& first = *choose_thread();
  run(first);
  switch_context(block.host, first.context);
  if (block.failed) abandon_threads();
  block.current = nullptr;
  return !block.failed;
}

void suspend() {
  Thread& self = *block.current;
  Thread& next = *choose_thread();  // never null: this thread has not ended
  if (&next == &self) return;
  run(next);
  switch_context(self.context, next.context);
}

void yield() {
  block.warps[block.current->warp].polite |= 1u << block.current->lane;
  suspend();
}

void fail(const std::string& problem) {
  record_failure(problem);
  throw Failure{};
}

void abandon_block(const std::string& problem) {
  record_failure(problem);
  leave_context(block.host);
  __builtin_unreachable();
}

}  // namespace pymodel::simt::emulator
