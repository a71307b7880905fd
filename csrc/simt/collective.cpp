#include "simt/collective.h"

#include <string>

#include "simt/block.h"
#include "simt/report.h"

namespace pymodel::simt::emulator {
namespace {

// "__shfl_sync with mask 0x0000ffff"
std::string with_mask(const Collective& collective, uint32_t mask) {
  return std::string(collective.name) + " with mask " + hexadecimal(mask);
}

[[noreturn]] void fail_divergent(const Collective& collective, uint32_t mask, int lane) {
  const Warp& warp = block.warps[block.current->warp];
  fail("divergent collective: " + with_mask(collective, mask) + " needs lane " +
       std::to_string(lane) + ", which waits at " +
       with_mask(*warp.collectives[lane], warp.masks[lane]));
}

[[noreturn]] void fail_mask(const Collective& collective, uint32_t mask) {
  const Thread& self = *block.current;
  const Warp& warp = block.warps[self.warp];
  if (!(mask >> self.lane & 1)) {
    fail(with_mask(collective, mask) + ", which lacks the calling lane " +
         std::to_string(self.lane));
  }
  const uint32_t gone = mask & (warp.ended | ~warp.lanes);
  fail("divergent collective: " + with_mask(collective, mask) + " needs " + lane_list(gone) +
       ", which " + (gone & warp.ended ? "ended already" : "the block does not have"));
}

// Carries the operation out. Lanes of the mask may have met others before this lane came: all are
// looked at once more.
void complete(const Collective& collective, uint32_t mask, Warp& warp) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (warp.collectives[lane] != &collective || warp.masks[lane] != mask) {
      fail_divergent(collective, mask, lane);
    }
  }
  collective.combine(warp.operands, mask);
}

}  // namespace

void exchange(const Collective& collective, uint32_t mask, void* operand) {
  const int index = block.current->warp, lane = block.current->lane;
  Warp& warp = block.warps[index];
  const uint32_t bit = 1u << lane;
  if (!(mask & bit) || (mask & (warp.ended | ~warp.lanes))) fail_mask(collective, mask);
  const uint32_t here = mask & warp.at_collective;
  if (here != 0) {
    const int first = __builtin_ctz(here);
    if (warp.collectives[first] != &collective || warp.masks[first] != mask) {
      fail_divergent(collective, mask, first);
    }
  }
  warp.collectives[lane] = &collective;
  warp.masks[lane] = mask;
  warp.operands[lane] = operand;
  if ((here | bit) != mask) {
    warp.at_collective |= bit;
    return suspend();
  }
  complete(collective, mask, warp);
  warp.at_collective &= ~mask;
  if (here != 0) wake(index, here);
}

uint32_t live_lanes() {
  const Warp& warp = block.warps[block.current->warp];
  return warp.lanes & ~warp.ended;
}

void check_ended_lane(const Thread& ended) {
  const Warp& warp = block.warps[ended.warp];
  for (uint32_t rest = warp.at_collective; rest != 0; rest &= rest - 1) {
    const int waiting = __builtin_ctz(rest);
    if (warp.masks[waiting] >> ended.lane & 1) {
      fail("divergent collective: lane " + std::to_string(ended.lane) + " ended, but lane " +
           std::to_string(waiting) + " waits for it at " +
           with_mask(*warp.collectives[waiting], warp.masks[waiting]));
    }
  }
}

}  // namespace pymodel::simt::emulator
