#include "simt/schedule.h"

#include <mutex>
#include <numeric>

namespace pymodel::simt::emulator {
namespace {

std::mutex mutex;
bool fixed = false;
Order fixed_order = Order::round_robin;
uint64_t base_seed = 0;
uint64_t launches = 0;

constexpr Order kStandingOrders[] = {Order::run_ahead, Order::lag_behind, Order::random,
                                     Order::reverse, Order::run_ahead};

void restart(bool fix, Order order, uint64_t seed) {
  const std::lock_guard<std::mutex> lock(mutex);
  fixed = fix;
  fixed_order = order;
  base_seed = seed;
  launches = 0;
}

}  // namespace

void set_schedule(Order order, uint64_t seed) { restart(true, order, seed); }
void set_default_schedule() { restart(false, Order::round_robin, 0); }

const char* order_name(Order order) {
  switch (order) {
    case Order::round_robin:
      return "round_robin";
    case Order::reverse:
      return "reverse";
    case Order::random:
      return "random";
    case Order::run_ahead:
      return "run_ahead";
    case Order::lag_behind:
      return "lag_behind";
  }
  return "unknown";
}

Schedule next_schedule() {
  const std::lock_guard<std::mutex> lock(mutex);
  const Order standing = kStandingOrders[launches % std::size(kStandingOrders)];
  return {fixed ? fixed_order : standing, base_seed + launches++};
}

BlockOrder::BlockOrder(Schedule schedule, uint64_t count) : count_(count) {
  if (schedule.order == Order::round_robin) return;
  if (schedule.order == Order::reverse) {
    start_ = count - 1;
    step_ = count - 1;  // -1 modulo count
    return;
  }
  // A step without common factor visits every block once. Both are below 2^32, so that the
  // products fit 64 bits.
  Random random{~schedule.seed};
  start_ = random.next() % count;
  do {
    step_ = 1 + random.next() % count;
  } while (std::gcd(step_, count) != 1);
}

void Scheduler::begin_block(int warps) { favourite_ = static_cast<int>(random_.below(warps)); }

int Scheduler::random_warp(uint32_t runnable) {
  for (uint32_t skip = random_.below(__builtin_popcount(runnable)); skip > 0; --skip) {
    runnable &= runnable - 1;
  }
  return __builtin_ctz(runnable);
}

int Scheduler::choose_warp(uint32_t runnable, int current) {
  const uint32_t favourite = 1u << favourite_, others = runnable & ~favourite;
  if (schedule_.order == Order::round_robin) {
    const uint32_t after = current >= 31 ? 0 : runnable & (~0u << (current + 1));
    return __builtin_ctz(after ? after : runnable);
  }
  if (schedule_.order == Order::reverse) {
    descending_ = true;
    const uint32_t before = runnable & ((1u << current) - 1);
    return 31 - __builtin_clz(before ? before : runnable);
  }
  const uint64_t draw = random_.next();
  descending_ = draw & 32;
  first_lane_ = static_cast<int>(draw & 31);
  if (schedule_.order == Order::run_ahead) {
    if (runnable & favourite) return favourite_;
    if (runnable >> current & 1) return current;
  }
  if (schedule_.order == Order::lag_behind && others != 0) {
    return others >> current & 1 ? current : random_warp(others);
  }
  return random_warp(runnable);
}

}  // namespace pymodel::simt::emulator
