// What the host asks of a kind of device: its memory, copies, streams and graphs.
//
// One source (csrc/cuda/backend.cu) implements it on the CUDA runtime and, compiled against the
// emulator, on the host; a build holds none, one or both. Streams, events and graphs are opaque
// handles of that runtime. Everything throws DeviceError unless it says otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/execution.h"
#include "core/tensor_view.h"

namespace pymodel {

constexpr int kMaxDevices = 64;  // of one type

struct DeviceMemoryStats {
  size_t in_use = 0;       // bytes of tensors and workspaces
  size_t peak_in_use = 0;  // their maximum since the last reset
  size_t reserved = 0;     // bytes that the pool holds of the device, in use or kept for reuse
  size_t free = 0;         // bytes of the device that no process holds
  size_t total = 0;        // bytes of the device
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Devices. A count of 0 where none can be used; why_unavailable() then says why and what to do,
  // and is empty else.
  virtual int device_count() = 0;
  virtual std::string why_unavailable() = 0;
  virtual std::string title(int index) = 0;             // such as "NVIDIA H200"
  virtual int capability(int index) = 0;                // 90 for compute capability 9.0
  virtual int exchange_device(int index) noexcept = 0;  // makes it this thread's; returns the last

  // Memory, in the order of the stream: a block may be handed out again while kernels that were
  // given to the stream before its release still read it.
  virtual void* allocate(size_t bytes, const Execution& on) = 0;  // throws OutOfMemory
  virtual void release(void* data, size_t bytes, const Execution& on) noexcept = 0;
  virtual void empty_cache(int index) = 0;
  virtual DeviceMemoryStats memory_stats(int index) = 0;
  virtual void reset_peak_memory(int index) = 0;

  // Page-locked host memory, which the device reads and writes by itself.
  virtual void* allocate_pinned(size_t bytes) = 0;  // throws OutOfMemory
  virtual void release_pinned(void* data, size_t bytes) noexcept = 0;

  // Copies between any two places, put into the stream. Pageable host memory may be reused once
  // this returns when it is the source, and is filled after synchronize() when it is the target;
  // for pinned memory both hold after synchronize() only.
  virtual void copy(void* target, const void* source, size_t bytes, const Execution& on) = 0;
  // Keeps pinned memory from being handed out again before the copy just put into `on` is done.
  virtual void hold_pinned(const void* data, const Execution& on) = 0;

  // Streams and events.
  virtual void synchronize(const Execution& on) = 0;  // waits for the stream
  virtual void synchronize_device(int index) = 0;     // waits for all streams
  // Streams are never destroyed, only handed out again: tensors are released in the order of the
  // stream that they were made in, however late that is.
  virtual void* take_stream(int index) = 0;
  virtual void give_stream(void* stream, int index) noexcept = 0;
  virtual void* create_event(int index) = 0;
  virtual void destroy_event(void* event) noexcept = 0;
  virtual void record(void* event, const Execution& on) = 0;
  virtual void wait(const Execution& on, void* event) = 0;  // later work waits, not the host
  virtual void synchronize_event(void* event) = 0;
  virtual double elapsed_ms(void* start, void* end) = 0;

  // Graphs. Between begin and end, work put into the stream is noted instead of done; memory
  // allocated meanwhile stays at its address until destroy_graph() and the release of its last
  // block.
  virtual void begin_capture(const Execution& on) = 0;
  virtual void* end_capture(const Execution& on) = 0;
  virtual bool capturing(const Execution& on) = 0;
  virtual void launch_graph(void* graph, const Execution& on) = 0;
  virtual void destroy_graph(void* graph) noexcept = 0;

  // Faults (core/fault.h). Host memory of `count` integers of 64 bits that kernels can write.
  virtual int64_t* allocate_mapped(int index, int count) = 0;
  // Notes in `slot` the first position of `values`, (count) integers, that holds none of 0 to
  // `most`.
  virtual void check_range(const TensorView& values, int64_t most, int64_t* slot,
                           const Execution& on) = 0;
};

// The backend of a device that is not the CPU; throws DeviceError, with the reason, where it cannot
// be used.
Backend& backend_for(Device device);

// The same, or null where this build has none; it may have no usable device.
Backend* backend_or_null(DeviceType type);

// Why no device of this type can be used; empty when one can.
std::string why_unavailable(DeviceType type);

// The stream that this thread puts work for a device into: the default stream until
// exchange_stream() says otherwise, which returns the one before.
Execution current_execution(Device device);
void* exchange_stream(Device device, void* stream);

// Makes `after` wait, without the host, for all work that `before` holds now; both of one type.
void order(const Execution& before, const Execution& after);

// While it lives, the device is the one that this thread's runtime calls refer to.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  Backend* backend_ = nullptr;  // null for the CPU, which needs no guard
  int previous_ = 0;
};

}  // namespace pymodel
