#include "core/fault.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <stdexcept>
#include <string>

#include "core/errors.h"

namespace pymodel {
namespace {

constexpr int kFaults = static_cast<int>(Fault::count);

constexpr const char* kTexts[kFaults] = {
    "cross_entropy: a target is no class, the first one at position ",
    "embedding: an index is no row of weight, the first one at position ",
    "attention: query_lengths must be from 0 to the sequence's extent, which does not hold at ",
    "attention: key_lengths must be from 0 to the sequence's extent, which does not hold at ",
    "attention_varlen: cu_seqlens must rise from 0 to the rows of memory, by at most max_seqlen at "
    "a "
    "time, which does not hold at ",
    "rotary: a position is no row of cos and sin, the first one of token ",
};

std::mutex mutex;

// The slots of a device, made when one is first asked for; null before.
int64_t*& slots_of(Device device) {
  static std::array<std::array<int64_t*, kMaxDevices>, 2> slots{};
  return slots[device.type == DeviceType::cuda ? 0 : 1][static_cast<size_t>(device.index)];
}

}  // namespace

int64_t* fault_slot(Device device, Fault fault) {
  std::lock_guard<std::mutex> lock(mutex);
  int64_t*& slots = slots_of(device);
  if (slots == nullptr) {
    slots = backend_for(device).allocate_mapped(device.index, kFaults);
    std::fill(slots, slots + kFaults, int64_t{-1});
  }
  return slots + static_cast<int>(fault);
}

int64_t take_fault(Device device, Fault fault) {
  std::lock_guard<std::mutex> lock(mutex);
  int64_t* const slots = slots_of(device);
  if (slots == nullptr) return -1;
  int64_t& slot = slots[static_cast<int>(fault)];
  const int64_t position = slot;
  slot = -1;
  return position;
}

void raise_faults(Device device) {
  for (int i = 0; i < kFaults; ++i) {
    const int64_t position = take_fault(device, static_cast<Fault>(i));
    if (position < 0) continue;
    for (int later = i + 1; later < kFaults; ++later) take_fault(device, static_cast<Fault>(later));
    const std::string text =
        kTexts[i] + std::to_string(position) + ", counted in row-major order; found on " +
        device_name(device) +
        " after the call had returned: PYMODEL_CUDA_BLOCKING=1 in the environment shows which";
    const auto fault = static_cast<Fault>(i);
    if (fault == Fault::embedding_index || fault == Fault::rotary_position) {
      throw std::out_of_range(text);
    }
    throw ShapeError(text);
  }
}

}  // namespace pymodel
