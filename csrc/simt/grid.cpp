#include "simt/grid.h"

#include <mutex>

#include "simt/block.h"
#include "simt/device_memory.h"
#include "simt/faults.h"
#include "simt/report.h"
#include "simt/shared_memory.h"
#include "simt/static_shared.h"

namespace pymodel::simt::emulator {
namespace {

std::mutex running;

}  // namespace

std::string run_grid(const Grid& grid) {
  const std::lock_guard<std::mutex> lock(running);
  const Schedule schedule = next_schedule();
  const uint64_t count = uint64_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z;
  const BlockOrder order(schedule, count);
  gridDim = grid.blocks;
  blockDim = grid.threads;
  name_kernel(grid.kernel);
  size_shared(grid.shared_bytes);
  poison_static_shared();
  shape_block(grid.threads);
  block.body = grid.body;
  block.body_argument = grid.argument;
  block.scheduler.begin_grid(schedule);
  const FaultCatcher catcher;
  for (uint64_t turn = 0; turn < count; ++turn) {
    const uint64_t index = order(turn);
    blockIdx.x = static_cast<unsigned>(index % grid.blocks.x);
    blockIdx.y = static_cast<unsigned>(index / grid.blocks.x % grid.blocks.y);
    blockIdx.z = static_cast<unsigned>(index / grid.blocks.x / grid.blocks.y);
    poison_shared();
    if (!run_block()) return block.report;
    const std::string overrun = check_shared_guards();
    if (!overrun.empty()) return block_report("out of bounds: " + overrun);
  }
  const std::string overrun = check_guards();
  return overrun.empty() ? overrun : grid_report("out of bounds: " + overrun);
}

}  // namespace pymodel::simt::emulator
