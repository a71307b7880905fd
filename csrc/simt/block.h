// One block of a grid while it runs: its threads, what each of them waits for, and who runs next.
//
// A thread runs until it has to wait, then switches straight to the next one; there is no
// scheduler between them. A turn of a warp ends when all its lanes wait or have ended; lanes that
// were released meanwhile run in the warp's next turn.
//
// Everything here belongs to the one grid that runs at a time (grid.h), on one OS thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "simt/copy_async.h"
#include "simt/fibre.h"
#include "simt/schedule.h"
#include "simt/vector_types.h"

namespace pymodel::simt {

// The built-in variables of the thread that runs now.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

}  // namespace pymodel::simt

namespace pymodel::simt::emulator {

constexpr int kWarpSize = 32, kMaxWarps = 32, kMaxThreads = kWarpSize * kMaxWarps;

// A lane that waits at a collective stands in its warp's at_collective instead.
enum class Wait : uint8_t { nothing, barrier, mbarrier };

// What every switch touches comes first, in one cache line.
struct alignas(64) Thread {
  Context context;
  Stack stack;  // none before the first instruction and after the last
  uint3 index;
  uint8_t warp = 0, lane = 0;
  Wait wait = Wait::nothing;

  const char* waits_at = "";       // the operation's name, for reports
  const void* waits_on = nullptr;  // the Barrier, or the mbarrier's address
  uint32_t parity = 0;             // mbarrier: the phase
  int barrier_result = 0;          // __syncthreads_count and its like
  AsyncCopies copies;
};

struct Collective;

struct Warp {
  uint32_t lanes = 0;  // that exist: all but in the last warp of a block of odd size
  uint32_t ready = 0;  // lanes that still run in this turn
  uint32_t woken = 0;  // and in the next
  uint32_t ended = 0;
  uint32_t polite = 0;  // lanes that poll: they run when nobody else can
  // Lanes that wait at a collective: which one, for whom, and what each brings.
  uint32_t at_collective = 0;
  uint32_t masks[kWarpSize];
  const Collective* collectives[kWarpSize];
  void* operands[kWarpSize];
};

struct Block {
  Thread threads[kMaxThreads];
  Warp warps[kMaxWarps];
  int warp_count = 0, thread_count = 0;
  int live = 0;           // threads that have not ended
  uint32_t runnable = 0;  // warps with ready or woken lanes
  int idle_rounds = 0;    // times that only polling threads could run
  Thread* current = nullptr;
  Scheduler scheduler;
  Context host;  // the launching code, resumed when the block is over
  void (*body)(const void*) = nullptr;
  const void* body_argument = nullptr;
  bool failed = false;
  std::string report;  // why
};

extern Block block;

inline Thread& thread_at(int warp, int lane) { return block.threads[warp * kWarpSize + lane]; }

// Runs all threads of a block of the size that the latest shape_block() has set. False on an
// error in the kernel, with block.report set; threads that had not ended are abandoned.
void shape_block(dim3 size);
bool run_block();

// Puts lanes of a warp in line for its next turn.
inline void wake(int warp, uint32_t lanes) {
  block.warps[warp].woken |= lanes;
  block.runnable |= 1u << warp;
}

// Switches to another thread; returns after someone has woken this one.
void suspend();
// For loops that poll: returns when no other thread can run.
void yield();

// Ends the block with a report: the kernel, the place, `problem` and the state of all warps. The
// caller's stack is unwound, those of the other threads are abandoned: kernels own nothing.
[[noreturn]] void fail(const std::string& problem);
// The same from a signal handler, where nothing can be unwound.
[[noreturn]] void abandon_block(const std::string& problem);

}  // namespace pymodel::simt::emulator
