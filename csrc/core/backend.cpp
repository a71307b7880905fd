#include "core/backend.h"

#include <array>

#include "core/errors.h"

namespace pymodel {

// Defined by csrc/cuda/backend.cu, once in each namespace; absent from a build without that
// backend.
namespace cuda {
__attribute__((weak)) Backend& backend();
}
namespace simt {
__attribute__((weak)) Backend& backend();
}

Backend* backend_or_null(DeviceType type) {
  if (type == DeviceType::cuda && &cuda::backend != nullptr) return &cuda::backend();
  if (type == DeviceType::simt && &simt::backend != nullptr) return &simt::backend();
  return nullptr;
}

std::string why_unavailable(DeviceType type) {
  Backend* const backend = backend_or_null(type);
  if (backend != nullptr) return backend->why_unavailable();
  if (type == DeviceType::simt) {
    return "this build of pymodel has no emulator; it is for tests, and built with "
           "-DPYMODEL_SIMT=ON";
  }
  return "this build of pymodel has no CUDA kernels; use device='cpu', or build it with "
         "-DPYMODEL_CUDA=ON where nvcc is installed";
}

Backend& backend_for(Device device) {
  Backend* const backend = backend_or_null(device.type);
  if (backend != nullptr && backend->device_count() > 0) return *backend;
  throw DeviceError("device '" + device_name(device) + "': " + why_unavailable(device.type));
}

// ---------------------------------------------------------------------------------------------
// Streams

// The current stream of each device, by thread; null is the default one.
static void*& stream_slot(Device device) {
  thread_local std::array<std::array<void*, kMaxDevices>, 2> streams{};
  return streams[device.type == DeviceType::cuda ? 0 : 1][static_cast<size_t>(device.index)];
}

Execution current_execution(Device device) {
  return {device, device.is_cpu() ? nullptr : stream_slot(device)};
}

void* exchange_stream(Device device, void* stream) {
  void*& slot = stream_slot(device);
  void* const previous = slot;
  slot = stream;
  return previous;
}

void order(const Execution& before, const Execution& after) {
  if (before.device.is_cpu()) return;
  if (before.stream == after.stream && before.device == after.device) return;
  Backend& backend = backend_for(before.device);
  void* const event = backend.create_event(before.device.index);
  backend.record(event, before);
  backend.wait(after, event);
  backend.destroy_event(event);  // the runtime keeps it until the wait is over
}

DeviceGuard::DeviceGuard(Device device) {
  if (device.is_cpu()) return;
  backend_ = &backend_for(device);
  previous_ = backend_->exchange_device(device.index);
}

DeviceGuard::~DeviceGuard() {
  if (backend_ != nullptr) backend_->exchange_device(previous_);
}

}  // namespace pymodel
