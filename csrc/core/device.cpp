#include "core/device.h"

#include "core/backend.h"
#include "core/errors.h"

namespace pymodel {
namespace {

constexpr std::pair<DeviceType, const char*> kTypeNames[] = {
    {DeviceType::cpu, "cpu"},
    {DeviceType::cuda, "cuda"},
    {DeviceType::simt, "simt"},
};

// The number after the colon, 0 without one; -1 for anything that is not a small number.
int parse_index(const std::string& text) {
  if (text.empty()) return 0;
  if (text.size() > 4 || text.size() < 2) return -1;
  int index = 0;
  for (const char digit : text.substr(1)) {
    if (digit < '0' || digit > '9') return -1;
    index = 10 * index + (digit - '0');
  }
  return index;
}

void check_present(const std::string& name, Device device) {
  const int count = device.is_cpu() ? 1 : backend_for(device).device_count();
  if (device.index < count) return;
  throw DeviceError("device '" + name + "': there is " + (count == 1 ? "only one " : "only ") +
                    (count == 1 ? "" : std::to_string(count) + " ") +
                    device_name({device.type, 0}) + " device" + (count == 1 ? "" : "s") +
                    ", numbered from 0");
}

}  // namespace

Device parse_device(const std::string& name) {
  if (name == "cpu") return {};
  const std::string kind = name.substr(0, name.find(':'));
  for (const auto& [type, text] : kTypeNames) {
    if (kind != text) continue;
    const int index = parse_index(name.substr(kind.size()));
    if (index < 0) break;
    const Device device{type, index};
    check_present(name, device);
    return device;
  }
  throw DeviceError("device '" + name + "' is unknown; expected 'cpu', 'cuda' or 'cuda:N'");
}

std::string device_name(Device device) {
  for (const auto& [type, text] : kTypeNames) {
    if (type != device.type) continue;
    return device.index == 0 ? text : std::string(text) + ":" + std::to_string(device.index);
  }
  return "?";
}

}  // namespace pymodel
