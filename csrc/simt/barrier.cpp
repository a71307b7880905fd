#include "simt/barrier.h"

#include "simt/block.h"

namespace pymodel::simt::emulator {
namespace {

struct Barrier {
  uint32_t waiting[kMaxWarps] = {};  // lanes of each warp
  int arrived = 0;
  int expected = 0;  // 0 while nobody has come; kAll for all threads that live
  Vote vote = Vote::none;
  int yes = 0;  // predicates that were true
};

constexpr int kBarriers = 16, kAll = -1;
Barrier barriers[kBarriers];

int needed(const Barrier& barrier) {
  return barrier.expected == kAll ? block.live : barrier.expected;
}

int vote_result(const Barrier& barrier) {
  switch (barrier.vote) {
    case Vote::count:
      return barrier.yes;
    case Vote::all:
      return barrier.yes == barrier.arrived;
    case Vote::any:
      return barrier.yes > 0;
    case Vote::none:
      break;
  }
  return 0;
}

void release(Barrier& barrier) {
  const int result = vote_result(barrier);
  for (int warp = 0; warp < block.warp_count; ++warp) {
    if (barrier.waiting[warp] == 0) continue;
    if (barrier.vote != Vote::none) {
      for (uint32_t rest = barrier.waiting[warp]; rest != 0; rest &= rest - 1) {
        thread_at(warp, __builtin_ctz(rest)).barrier_result = result;
      }
    }
    wake(warp, barrier.waiting[warp]);
  }
  barrier = {};
}

const char* vote_name(Vote vote) {
  switch (vote) {
    case Vote::count:
      return "__syncthreads_count";
    case Vote::all:
      return "__syncthreads_and";
    case Vote::any:
      return "__syncthreads_or";
    case Vote::none:
      break;
  }
  return "__syncthreads";
}

void arrive(Barrier& barrier, int expected, Vote vote, const char* operation) {
  if (barrier.arrived == 0) {
    barrier.expected = expected;
    barrier.vote = vote;
  } else if (barrier.expected != expected || barrier.vote != vote) {
    fail(std::string(operation) + " meets threads that came to " + describe_barrier(&barrier) +
         " by another operation or with another number of threads");
  }
  ++barrier.arrived;
}

// The last thread to come stands in line like the others, so that the schedule decides who is the
// first to leave.
void wait_at(Barrier& barrier, const char* operation) {
  Thread& self = *block.current;
  barrier.waiting[self.warp] |= 1u << self.lane;
  self.wait = Wait::barrier;
  self.waits_at = operation;
  self.waits_on = &barrier;
  if (barrier.arrived >= needed(barrier)) release(barrier);
  suspend();
  self.wait = Wait::nothing;
}

Barrier& named(int id, int threads, const char* operation) {
  if (id < 0 || id >= kBarriers) {
    fail(std::string(operation) + ": barrier " + std::to_string(id) + " does not exist");
  }
  if (threads <= 0 || threads % kWarpSize != 0) {
    fail(std::string(operation) + ": " + std::to_string(threads) +
         " threads are not a multiple of the warp's 32");
  }
  if (threads > block.warp_count * kWarpSize) {
    fail(std::string(operation) + " waits for " + std::to_string(threads) +
         " threads, the block has " + std::to_string(block.thread_count));
  }
  return barriers[id];
}

}  // namespace

int barrier_all(Vote vote, bool predicate) {
  Barrier& barrier = barriers[0];
  arrive(barrier, kAll, vote, vote_name(vote));
  barrier.yes += predicate;
  wait_at(barrier, vote_name(vote));
  return block.current->barrier_result;
}

void barrier_sync(int id, int threads) {
  Barrier& barrier = named(id, threads, "named_barrier_sync");
  arrive(barrier, threads, Vote::none, "named_barrier_sync");
  wait_at(barrier, "named_barrier_sync");
}

void barrier_arrive(int id, int threads) {
  Barrier& barrier = named(id, threads, "named_barrier_arrive");
  arrive(barrier, threads, Vote::none, "named_barrier_arrive");
  if (barrier.arrived >= needed(barrier)) release(barrier);
}

void reset_barriers() {
  for (Barrier& barrier : barriers) barrier = {};
}

void barrier_lost_thread() {
  Barrier& barrier = barriers[0];
  if (barrier.arrived > 0 && barrier.expected == kAll && barrier.arrived >= block.live) {
    release(barrier);
  }
}

std::string describe_barrier(const void* address) {
  const Barrier& barrier = *static_cast<const Barrier*>(address);
  return "barrier " + std::to_string(&barrier - barriers) + " (" + std::to_string(barrier.arrived) +
         " of " + std::to_string(needed(barrier)) + " threads have come)";
}

}  // namespace pymodel::simt::emulator
