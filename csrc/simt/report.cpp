#include "simt/report.h"

#include <cstdio>
#include <map>

#include "simt/barrier.h"
#include "simt/block.h"
#include "simt/collective.h"
#include "simt/module_file.h"

namespace pymodel::simt::emulator {
namespace {

const void* kernel = nullptr;

std::string triple(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
}

std::string state_of(const Thread& thread) {
  const Warp& warp = block.warps[thread.warp];
  const uint32_t bit = 1u << thread.lane;
  if (warp.ended & bit) return "ended";
  if (&thread == block.current && thread.wait == Wait::nothing) return "running";
  if ((warp.ready | warp.woken) & bit) {
    return thread.stack.bottom ? "can run" : "not started";
  }
  if (warp.at_collective & bit) {
    return std::string("wait at ") + warp.collectives[thread.lane]->name + " with mask " +
           hexadecimal(warp.masks[thread.lane]);
  }
  const std::string at = std::string("wait at ") + thread.waits_at;
  switch (thread.wait) {
    case Wait::barrier:
      return at + ", " + describe_barrier(thread.waits_on);
    case Wait::mbarrier:
      return at + ", " + describe_mbarrier(thread.waits_on, thread.parity);
    case Wait::nothing:
      break;
  }
  return "running";
}

std::string warp_states() {
  std::string text;
  for (int warp = 0; warp < block.warp_count; ++warp) {
    std::map<std::string, uint32_t> groups;
    for (int lane = 0; lane < kWarpSize; ++lane) {
      if (block.warps[warp].lanes >> lane & 1)
        groups[state_of(thread_at(warp, lane))] |= 1u << lane;
    }
    for (const auto& [state, lanes] : groups) {
      text += "\n  warp " + std::to_string(warp) + ": " + lane_list(lanes) + " " + state;
    }
  }
  return text;
}

std::string in_block() { return ", block " + triple(blockIdx.x, blockIdx.y, blockIdx.z); }

// What the grid was, with `where` in it.
std::string place(const std::string& where) {
  const Schedule& schedule = block.scheduler.schedule();
  return "\n  in kernel " + function_name(kernel) + where + "; grid " +
         triple(gridDim.x, gridDim.y, gridDim.z) + " of blocks " +
         triple(blockDim.x, blockDim.y, blockDim.z) + ", order " + order_name(schedule.order) +
         ", seed " + std::to_string(schedule.seed);
}

}  // namespace

std::string hexadecimal(uint32_t mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

std::string lane_list(uint32_t lanes) {
  std::string text = lanes & (lanes - 1) ? "lanes " : "lane ";
  bool first = true;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    int last = lane;
    while (last + 1 < kWarpSize && lanes >> (last + 1) & 1) ++last;
    text += (first ? "" : ", ") + std::to_string(lane);
    if (last > lane) text += "-" + std::to_string(last);
    first = false;
    lane = last;
  }
  return text;
}

void name_kernel(const void* function) { kernel = function; }

std::string failure_report(const std::string& problem) {
  const uint3 index = block.current->index;
  return problem + place(in_block() + ", thread " + triple(index.x, index.y, index.z)) +
         warp_states();
}

std::string block_report(const std::string& problem) { return problem + place(in_block()); }
std::string grid_report(const std::string& problem) { return problem + place(""); }

}  // namespace pymodel::simt::emulator
