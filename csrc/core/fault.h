// Invalid data that a kernel on a device came across: an index or a length out of range.
//
// The kernel cannot raise, and the host does not wait for it. It notes the first position in a slot
// of host memory and goes on without harm; whoever waits for the device next looks at the slots.
#pragma once

#include <cstdint>

#include "core/backend.h"

namespace pymodel {

enum class Fault {
  cross_entropy_target,
  embedding_index,
  query_length,
  key_length,
  packed_offset,
  rotary_position,
  count
};

// Where kernels of the device note this fault: -1, or the first position since the slots were last
// looked at. Lives for ever, so that a graph may hold it. Not for the CPU.
int64_t* fault_slot(Device device, Fault fault);

// The position noted and -1 from then on. The device must have been waited for.
int64_t take_fault(Device device, Fault fault);

// Throws what the slots say, the first kind first, and clears them all: ShapeError, or
// std::out_of_range (an IndexError) for an index. The device must have been waited for.
void raise_faults(Device device);

}  // namespace pymodel
