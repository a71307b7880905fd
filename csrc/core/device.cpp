#include "core/device.h"

#include "core/errors.h"

namespace pymodel {

Device parse_device(const std::string& name) {
  if (name == "cpu" || name == "cpu:0") return {DeviceType::cpu, 0};
  if (name.rfind("cuda", 0) == 0) {
    throw DeviceError("device '" + name +
                      "': this build of pymodel has no CUDA kernels; use device='cpu'");
  }
  throw DeviceError("device '" + name + "' is unknown; expected 'cpu'");
}

std::string device_name(Device device) {
  switch (device.type) {
    case DeviceType::cuda:
      return "cuda:" + std::to_string(device.index);
    case DeviceType::simt:
      return "simt";
    case DeviceType::cpu:
      break;
  }
  return "cpu";
}

}  // namespace pymodel
