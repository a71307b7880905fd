// Operations that several lanes of a warp carry out together, all built on one exchange.
#pragma once

#include <cstdint>

namespace pymodel::simt::emulator {

// One kind of warp-wide operation; lanes that meet must name the same object. `combine` runs once,
// in the last lane to arrive, over what all lanes of the mask brought: operands[lane].
struct Collective {
  const char* name;
  void (*combine)(void* const* operands, uint32_t mask);
};

// Brings `operand` and waits for the other lanes of `mask`; afterwards `operand` holds what
// combine() left there. Ends the block when the lanes do not agree: the caller is not in its mask,
// or a lane of the mask has ended, does not exist, or waits at something else.
void exchange(const Collective& collective, uint32_t mask, void* operand);

// The lanes of the caller's warp that have not ended.
uint32_t live_lanes();

// Reports lanes that wait for a lane that has just ended.
void check_ended_lane(const struct Thread& thread);

}  // namespace pymodel::simt::emulator
