// Where a tensor lives.
#pragma once

#include <string>

namespace pymodel {

enum class DeviceType {
  cpu,
  cuda,
  simt,  // CUDA kernels under the emulator (csrc/simt), for tests
};

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  bool operator==(const Device& other) const { return type == other.type && index == other.index; }
  bool operator!=(const Device& other) const { return !(*this == other); }
};

// Reads "cpu"; throws DeviceError for a device that this build or this machine does not have.
Device parse_device(const std::string& name);
std::string device_name(Device device);

}  // namespace pymodel
