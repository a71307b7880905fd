// Where a tensor lives.
#pragma once

#include <string>

namespace pymodel {

// `simt` is the emulator that runs the CUDA kernels on the host (csrc/simt); tests use it.
enum class DeviceType { cpu, cuda, simt };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  bool is_cpu() const { return type == DeviceType::cpu; }
  bool operator==(const Device& other) const { return type == other.type && index == other.index; }
  bool operator!=(const Device& other) const { return !(*this == other); }
};

// Reads "cpu", "cuda", "cuda:1" or "simt"; throws DeviceError, saying why, for a device that this
// build or this machine does not have.
Device parse_device(const std::string& name);

// "cpu", "cuda", "cuda:1", "simt": the number of the first device is left out.
std::string device_name(Device device);

}  // namespace pymodel
