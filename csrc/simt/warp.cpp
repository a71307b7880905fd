#include "simt/warp.h"

#include "simt/report.h"

namespace pymodel::simt::emulator {
namespace {

struct MatchOperand {
  uint64_t value;
  uint32_t result;
};

void combine_match(void* const* operands, uint32_t mask) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    auto& own = *static_cast<MatchOperand*>(operands[__builtin_ctz(rest)]);
    own.result = 0;
    for (uint32_t others = mask; others != 0; others &= others - 1) {
      const int other = __builtin_ctz(others);
      if (static_cast<MatchOperand*>(operands[other])->value == own.value)
        own.result |= 1u << other;
    }
  }
}

constexpr Collective kMatch = {"__match_any_sync", combine_match};

}  // namespace

void fail_shuffle(const char* name, int lane, int source, uint32_t mask) {
  fail(std::string(name) + " with mask " + hexadecimal(mask) + ": lane " + std::to_string(lane) +
       " reads lane " + std::to_string(source) + ", which the mask lacks");
}

uint32_t match_any(uint32_t mask, uint64_t value) {
  MatchOperand operand{value, 0};
  exchange(kMatch, mask, &operand);
  return operand.result;
}

}  // namespace pymodel::simt::emulator
