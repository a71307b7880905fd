// Device and pinned memory: ordinary memory of exactly the size asked for, in a register that
// copies are checked against.
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "simt/errors.h"
#include "simt/runtime.h"
#include "simt/shared_memory.h"
#include "simt/stream.h"

namespace pymodel::simt {
namespace emulator {

struct MemoryPool {
  uint64_t release_threshold = 0;
};

namespace {

constexpr size_t kDefaultLimit = size_t{4} << 30;
constexpr size_t kAlignment = 256;  // that of cudaMalloc

enum class Kind { device, pinned, registered };

struct Allocation {
  size_t bytes;
  Kind kind;
};

std::mutex mutex;
std::map<uintptr_t, Allocation> allocations;
size_t used = 0, most_used = 0, limit = kDefaultLimit;
MemoryPool pool;

uintptr_t number(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// The allocation that holds `pointer`, with its begin. The mutex is held.
std::map<uintptr_t, Allocation>::iterator find(const void* pointer) {
  auto after = allocations.upper_bound(number(pointer));
  if (after == allocations.begin()) return allocations.end();
  --after;
  return number(pointer) < after->first + after->second.bytes ? after : allocations.end();
}

cudaError_t allocate(void** pointer, size_t bytes, Kind kind) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard<std::mutex> lock(mutex);
  if (kind == Kind::device && (bytes > limit || used > limit - bytes)) {
    return cudaErrorMemoryAllocation;
  }
  if (posix_memalign(pointer, kAlignment, bytes) != 0) {
    *pointer = nullptr;
    return cudaErrorMemoryAllocation;
  }
  allocations[number(*pointer)] = {bytes, kind};
  if (kind == Kind::device) {
    std::memset(*pointer, kPoison, bytes);
    used += bytes;
    most_used = used > most_used ? used : most_used;
  }
  return cudaSuccess;
}

cudaError_t release(void* pointer, Kind kind) {
  if (pointer == nullptr) return cudaSuccess;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto at = allocations.find(number(pointer));
  if (at == allocations.end() || at->second.kind != kind) return cudaErrorInvalidValue;
  std::memset(pointer, kPoison, at->second.bytes);
  if (kind == Kind::device) used -= at->second.bytes;
  allocations.erase(at);
  std::free(pointer);
  return cudaSuccess;
}

// Whether the range lies wholly on the side that it is said to be on.
bool lies_on(bool device, const void* pointer, size_t bytes) {
  const auto at = find(pointer);
  const bool on_device = at != allocations.end() && at->second.kind == Kind::device;
  if (on_device != device) return false;
  return !device || number(pointer) + bytes <= at->first + at->second.bytes;
}

cudaError_t check_copy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr) return cudaErrorInvalidValue;
  const std::lock_guard<std::mutex> lock(mutex);
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    const auto target = find(to), source = find(from);
    to_device = target != allocations.end() && target->second.kind == Kind::device;
    from_device = source != allocations.end() && source->second.kind == Kind::device;
  }
  const bool right = lies_on(to_device, to, bytes) && lies_on(from_device, from, bytes);
  return right ? cudaSuccess : cudaErrorInvalidValue;
}

bool on_device(const void* pointer, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  return lies_on(true, pointer, bytes);
}

}  // namespace

void set_memory_limit(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  limit = bytes == 0 ? kDefaultLimit : bytes;
}

}  // namespace emulator

using emulator::Kind;
using emulator::note;

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const cudaError_t forbidden = emulator::forbid_during_capture();
  return note(forbidden ? forbidden : emulator::allocate(pointer, bytes, Kind::device));
}

cudaError_t cudaFree(void* pointer) {
  const cudaError_t forbidden = emulator::forbid_during_capture();
  return note(forbidden ? forbidden : emulator::release(pointer, Kind::device));
}

// Memory of a capture has one address for the life of the graph and of all that it became.
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  const cudaError_t error = emulator::allocate(pointer, bytes, Kind::device);
  emulator::Capture* capture = emulator::capture_of(stream);
  if (error == cudaSuccess && capture != nullptr) {
    capture->graph.memory.emplace_back(
        *pointer, [](void* memory) { emulator::release(memory, Kind::device); });
  }
  return note(error);
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t,
                                    cudaStream_t stream) {
  return cudaMallocAsync(pointer, bytes, stream);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  emulator::Capture* capture = emulator::capture_of(stream);
  if (capture == nullptr) return note(emulator::release(pointer, Kind::device));
  for (const auto& memory : capture->graph.memory) {
    if (memory.get() == pointer) return cudaSuccess;
  }
  return note(cudaErrorInvalidValue);  // a graph frees only what it has allocated
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, 0);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return note(emulator::allocate(pointer, bytes, Kind::pinned));
}

cudaError_t cudaFreeHost(void* pointer) { return note(emulator::release(pointer, Kind::pinned)); }

// Pinned memory has one address on both sides.
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  const auto at = emulator::find(host);
  const bool pinned = at != emulator::allocations.end() && at->second.kind != Kind::device;
  *device = pinned ? host : nullptr;
  return note(pinned ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  if (pointer == nullptr || bytes == 0) return note(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  if (emulator::find(pointer) != emulator::allocations.end()) {
    return note(cudaErrorHostMemoryAlreadyRegistered);
  }
  emulator::allocations[emulator::number(pointer)] = {bytes, Kind::registered};
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  const auto at = emulator::allocations.find(emulator::number(pointer));
  if (at == emulator::allocations.end() || at->second.kind != Kind::registered) {
    return note(cudaErrorHostMemoryNotRegistered);
  }
  emulator::allocations.erase(at);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const cudaError_t error = emulator::check_copy(to, from, bytes, kind);
  if (error != cudaSuccess || bytes == 0) return note(error);
  return note(emulator::submit(stream, [=] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  }));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t forbidden = emulator::forbid_during_capture();
  return forbidden ? note(forbidden) : cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!emulator::on_device(to, bytes)) return note(cudaErrorInvalidValue);
  return note(emulator::submit(stream, [=] {
    std::memset(to, value, bytes);
    return cudaSuccess;
  }));
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const cudaError_t forbidden = emulator::forbid_during_capture();
  return forbidden ? note(forbidden) : cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  *total = emulator::limit;
  *available = emulator::limit > emulator::used ? emulator::limit - emulator::used : 0;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  const auto at = emulator::find(pointer);
  void* address = const_cast<void*>(pointer);
  if (at == emulator::allocations.end()) {
    *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, nullptr};
  } else if (at->second.kind == Kind::device) {
    *attributes = {cudaMemoryTypeDevice, 0, address, nullptr};
  } else {
    *attributes = {cudaMemoryTypeHost, 0, address, address};
  }
  return cudaSuccess;
}

// ---------------------------------------------------------------------------------------------
// The pool of cudaMallocAsync keeps nothing back, whatever its threshold says.

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* result, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  *result = &emulator::pool;
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute == cudaMemPoolAttrReleaseThreshold) {
    std::memcpy(&pool->release_threshold, value, sizeof(uint64_t));
  }
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  uint64_t answer = 0;
  if (attribute == cudaMemPoolAttrReleaseThreshold) answer = pool->release_threshold;
  if (attribute == cudaMemPoolAttrUsedMemCurrent) answer = emulator::used;
  if (attribute == cudaMemPoolAttrReservedMemCurrent) answer = emulator::used;
  if (attribute == cudaMemPoolAttrUsedMemHigh) answer = emulator::most_used;
  if (attribute == cudaMemPoolAttrReservedMemHigh) answer = emulator::most_used;
  std::memcpy(value, &answer, sizeof answer);
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

}  // namespace pymodel::simt
