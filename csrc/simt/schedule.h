// The order in which the emulator runs what a GPU would run at the same time.
//
// A missing barrier shows only when some thread runs ahead of another that it should have waited
// for, so the orders include extreme ones. Every order is a function of a seed: a failing launch
// can be repeated exactly.
#pragma once

#include <cstdint>

#include "simt/vector_types.h"

namespace pymodel::simt::emulator {

enum class Order {
  round_robin,  // each warp runs to its next warp-wide operation, in turn
  reverse,      // the same from the last warp, lane and block to the first
  random,       // any warp that can run, drawn anew at each warp-wide operation
  run_ahead,    // one warp runs whenever it can; the others as far as they can, in random turn
  lag_behind,   // one warp runs only when no other can
};

// Every launch from now on runs in this order, the first with this seed, each further one with the
// next.
void set_schedule(Order order, uint64_t seed);
// The standing rule: each launch has another order and seed, the same ones in every process.
void set_default_schedule();

const char* order_name(Order order);

struct Random {  // SplitMix64: Steele, Lea and Flood, OOPSLA 2014
  uint64_t state = 0;

  uint64_t next() {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // Uniform enough in [0, bound) for bounds far below 2^32.
  uint32_t below(uint32_t bound) { return (next() >> 32) * bound >> 32; }
};

// What one launch follows.
struct Schedule {
  Order order = Order::round_robin;
  uint64_t seed = 0;
};
Schedule next_schedule();

// The grid's blocks in the order in which they run: a permutation of 0 .. count - 1 that needs no
// table.
class BlockOrder {
 public:
  BlockOrder(Schedule schedule, uint64_t count);
  uint64_t operator()(uint64_t turn) const { return (start_ + turn % count_ * step_) % count_; }

 private:
  uint64_t count_, start_ = 0, step_ = 1;
};

// Chooses warps and lanes within a block. Sets of warps and of lanes are bit masks.
class Scheduler {
 public:
  void begin_grid(Schedule schedule) {
    schedule_ = schedule;
    random_.state = schedule.seed;
  }
  void begin_block(int warps);

  // The warp that goes on, one of `runnable` (not empty), when the turn of `current` is over.
  int choose_warp(uint32_t runnable, int current);

  // The first lane of a turn starts from choose_lane(); the others follow in the same direction.
  int choose_lane(uint32_t ready) const {
    if (descending_) return 31 - __builtin_clz(ready);
    const uint32_t from_start = ready & (~0u << first_lane_);
    return __builtin_ctz(from_start ? from_start : ready);
  }

  const Schedule& schedule() const { return schedule_; }

 private:
  int random_warp(uint32_t runnable);

  Schedule schedule_;
  Random random_;
  int favourite_ = 0;  // the warp that runs ahead or lags behind
  int first_lane_ = 0;
  bool descending_ = false;
};

}  // namespace pymodel::simt::emulator
