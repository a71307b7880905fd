// Where and in which order a kernel runs.
#pragma once

#include "core/device.h"

namespace pymodel {

struct Execution {
  Device device;
  void* stream =
      nullptr;  // a cudaStream_t; null is the device's default stream, and the CPU's only
};

}  // namespace pymodel
