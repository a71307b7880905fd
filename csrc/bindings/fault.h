// How bindings learn of invalid data that a kernel came across (core/fault.h).
#pragma once

#include "bindings/bindings.h"
#include "core/fault.h"

namespace pymodel {

// Where one kernel call notes the first position of invalid data.
class FaultReport {
 public:
  FaultReport(Device device, Fault fault)
      : device_(device),
        fault_(fault),
        slot_(device.is_cpu() ? &own_ : fault_slot(device, fault)) {}
  FaultReport(const FaultReport&) = delete;
  FaultReport& operator=(const FaultReport&) = delete;

  int64_t* slot() { return slot_; }

  // What the kernel noted, or -1. Also -1 on a device that has not been waited for: the next call
  // that does so raises.
  int64_t position() const {
    if (device_.is_cpu()) return own_;
    return runs_blocking(current_execution(device_)) ? take_fault(device_, fault_) : -1;
  }

 private:
  Device device_;
  Fault fault_;
  int64_t own_ = -1;
  int64_t* slot_;
};

// Looks on their device for integers, (count), outside 0 to `most`. True when some were found at
// once; where the device is not waited for, the next call that does so raises.
bool found_outside(const Array& integers, int64_t most, Fault fault);

}  // namespace pymodel
