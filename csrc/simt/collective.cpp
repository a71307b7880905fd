#include "simt/collective.h"

#include <string>

#include "simt/block.h"
#include "simt/report.h"

namespace pymodel::simt::emulator {
namespace {

[[noreturn]] void fail_divergent(const Collective& collective, uint32_t mask, const Thread& other) {
  fail("divergent collective: " + std::string(collective.name) + " with mask " + hexadecimal(mask) +
       " needs lane " + std::to_string(other.lane) + ", which waits at " + other.waits_at +
       " with mask " + hexadecimal(other.mask));
}

void check_mask(const Collective& collective, uint32_t mask, const Thread& self, const Warp& warp) {
  if (!(mask >> self.lane & 1)) {
    fail(std::string(collective.name) + " with mask " + hexadecimal(mask) +
         ", which lacks the calling lane " + std::to_string(self.lane));
  }
  const uint32_t gone = mask & (warp.ended | ~warp.lanes);
  if (gone) {
    fail("divergent collective: " + std::string(collective.name) + " with mask " +
         hexadecimal(mask) + " needs " + lane_list(gone) + ", which " +
         (gone & warp.ended ? "ended already" : "the block does not have"));
  }
}

bool agrees(const Thread& thread, const Collective& collective, uint32_t mask) {
  return thread.waits_on == &collective && thread.mask == mask;
}

// Lanes of the mask may have met others before this lane came: all are looked at once more.
void check_all(const Collective& collective, uint32_t mask, const Thread* lanes) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const Thread& thread = lanes[__builtin_ctz(rest)];
    if (!agrees(thread, collective, mask)) fail_divergent(collective, mask, thread);
  }
}

}  // namespace

void exchange(const Collective& collective, uint32_t mask, void* operand) {
  Thread& self = *block.current;
  Warp& warp = block.warps[self.warp];
  const uint32_t bit = 1u << self.lane;
  if (!(mask & bit) || (mask & (warp.ended | ~warp.lanes))) {
    check_mask(collective, mask, self, warp);
  }
  Thread* const lanes = &thread_at(self.warp, 0);
  const uint32_t here = mask & warp.at_collective;
  if (here != 0) {
    const Thread& first = lanes[__builtin_ctz(here)];
    if (!agrees(first, collective, mask)) fail_divergent(collective, mask, first);
  }
  self.waits_at = collective.name;
  self.waits_on = &collective;
  self.mask = mask;
  self.operand = operand;
  if ((here | bit) != mask) {
    self.wait = Wait::collective;
    warp.at_collective |= bit;
    suspend();
    self.wait = Wait::nothing;
    return;
  }
  check_all(collective, mask, lanes);
  void* operands[kWarpSize];
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    operands[lane] = lanes[lane].operand;
  }
  collective.combine(operands, mask);
  warp.at_collective &= ~mask;
  if (here != 0) wake(self.warp, here);
}

uint32_t live_lanes() {
  const Warp& warp = block.warps[block.current->warp];
  return warp.lanes & ~warp.ended;
}

void check_ended_lane(const Thread& ended) {
  for (uint32_t rest = block.warps[ended.warp].at_collective; rest != 0; rest &= rest - 1) {
    const Thread& waiting = thread_at(ended.warp, __builtin_ctz(rest));
    if (waiting.mask >> ended.lane & 1) {
      fail("divergent collective: lane " + std::to_string(ended.lane) + " ended, but lane " +
           std::to_string(waiting.lane) + " waits for it at " + waiting.waits_at + " with mask " +
           hexadecimal(waiting.mask));
    }
  }
}

}  // namespace pymodel::simt::emulator
