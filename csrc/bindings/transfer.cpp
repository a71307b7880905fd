#include "bindings/transfer.h"

#include <cstring>

#include "bindings/elementwise.h"
#include "core/fault.h"

namespace pymodel {
namespace {

void put(const Array& source, const Array& out) {
  const CopyArguments args{broadcast_view(source.view(), out.view()), out.view()};
  PYMODEL_RUN(copy, out.device(), args);
}

// `source` as a contiguous array of this dtype, still on its device.
Array dense(const Array& source, DType dtype) {
  return source.contiguous() && source.dtype() == dtype ? source : converted(source, dtype);
}

// The device whose stream carries the copy: the one that is not the host, the target's of two.
Device carrier(const Array& source, const Array& out) {
  return out.device().is_cpu() ? source.device() : out.device();
}

// Ordinary host memory up to this size is sent through pinned memory of our own: the runtime would
// let the host wait for the stream before it takes in the last bytes.
constexpr size_t kStagedBytes = size_t{8} << 20;

void copy_staged(Backend& backend, void* target, const void* source, size_t bytes,
                 const Execution& on) {
  void* const staging = backend.allocate_pinned(bytes);
  std::memcpy(staging, source, bytes);
  try {
    backend.copy(target, staging, bytes, on);
    backend.hold_pinned(staging, on);
  } catch (...) {
    backend.release_pinned(staging, bytes);
    throw;
  }
  backend.release_pinned(staging, bytes);  // handed out again once the copy is done
}

// Both arrays are contiguous, of one shape and one dtype.
void copy_bytes(const Array& source, const Array& out, bool non_blocking) {
  const Execution on = current_execution(carrier(source, out));
  Backend& backend = backend_for(on.device);
  const bool both = !source.device().is_cpu() && !out.device().is_cpu();
  if (both && source.device().type != out.device().type) {
    // Two runtimes that know nothing of each other meet on the host.
    const Array host = moved(source, Device{}, false);
    copy_bytes(host, out, false);
    return;
  }
  const Array& host = source.device().is_cpu() ? source : out;
  const bool pinned = host.storage()->pinned_by() == &backend;
  if (!both && !(pinned && non_blocking) && backend.capturing(on)) {
    throw DeviceError(
        "copy: a graph is being captured, where the host can wait for nothing and ordinary memory "
        "of the host cannot be read; copy outside of the capture, or between the device and a "
        "pinned tensor with non_blocking=True");
  }
  if (both) order(current_execution(source.device()), on);
  const size_t bytes = static_cast<size_t>(out.numel()) * item_size(out.dtype());
  {
    py::gil_scoped_release released;  // to or from pageable memory the host takes part
    if (source.device().is_cpu() && !pinned && bytes <= kStagedBytes) {
      copy_staged(backend, out.view().data, source.view().data, bytes, on);
    } else {
      backend.copy(out.view().data, source.view().data, bytes, on);
    }
  }
  if (both) {
    order(on, current_execution(source.device()));  // its memory may be released after the copy
  } else if (pinned && non_blocking) {
    backend.hold_pinned(host.storage()->data(), on);
  } else if (pinned || out.device().is_cpu()) {
    synchronize_stream(on.device);
  }
}

}  // namespace

void copy_between_devices(const Array& source, const Array& out, bool non_blocking) {
  // Converted where it leaves the fewer bytes to move.
  const bool widens = item_size(out.dtype()) > item_size(source.dtype());
  const Array sent = dense(source, widens ? source.dtype() : out.dtype());
  const bool fits = out.contiguous() && sent.dtype() == out.dtype() && sent.shape() == out.shape();
  if (fits) {
    copy_bytes(sent, out, non_blocking);
    return;
  }
  const Array received = Array::empty(sent.shape(), sent.dtype(), out.device());
  copy_bytes(sent, received, false);
  put(received, out);
}

bool copied_as_bytes(const Array& source, const Array& out) {
  if (out.device().is_cpu() || source.storage() == out.storage()) return false;
  const bool dense = source.contiguous() && out.contiguous();
  if (!dense || source.dtype() != out.dtype() || source.shape() != out.shape()) return false;
  const Execution on = current_execution(out.device());
  const size_t bytes = static_cast<size_t>(out.numel()) * item_size(out.dtype());
  backend_for(on.device).copy(out.view().data, source.view().data, bytes, on);
  return true;
}

Array moved(const Array& source, Device device, bool non_blocking) {
  if (source.device() == device) return converted(source, source.dtype());
  Backend* const pinning = device.is_cpu() && non_blocking && !source.device().is_cpu()
                               ? &backend_for(source.device())
                               : nullptr;
  const Array out = pinning != nullptr
                        ? Array::empty_pinned(source.shape(), source.dtype(), *pinning)
                        : Array::empty(source.shape(), source.dtype(), device);
  copy_between_devices(source, out, non_blocking);
  return out;
}

Array pinned(const Array& source) {
  if (!source.device().is_cpu()) {
    throw DeviceError("pin_memory: the tensor lies on " + device_name(source.device()) +
                      ", and only memory of the host can be pinned");
  }
  Backend* backend = backend_or_null(DeviceType::cuda);
  if (backend == nullptr || backend->device_count() == 0) {
    backend = backend_or_null(DeviceType::simt);
  }
  if (backend == nullptr) throw DeviceError("pin_memory: " + why_unavailable(DeviceType::cuda));
  const Array out = Array::empty_pinned(source.shape(), source.dtype(), *backend);
  put(source, out);
  return out;
}

void synchronize_stream(Device device) {
  if (device.is_cpu()) return;
  const Execution on = current_execution(device);
  {
    py::gil_scoped_release released;
    backend_for(device).synchronize(on);
  }
  raise_faults(device);
}

}  // namespace pymodel
