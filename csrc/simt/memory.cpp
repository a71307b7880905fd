// The runtime's functions for memory, and its copies.
#include <cstring>

#include "simt/device_memory.h"
#include "simt/errors.h"
#include "simt/runtime.h"
#include "simt/stream.h"

namespace pymodel::simt {
namespace emulator {

struct MemoryPool {
  uint64_t release_threshold = 0;
};

static MemoryPool pool;

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
  emulator::Allocation block;
  const bool pinned = emulator::find_allocation(host, &block) && block.kind != Kind::device;
  *device = pinned ? host : nullptr;
  return note(pinned ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  return note(emulator::register_memory(pointer, bytes));
}

cudaError_t cudaHostUnregister(void* pointer) { return note(emulator::unregister_memory(pointer)); }

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
  const emulator::MemoryUse use = emulator::memory_use();
  *total = use.limit;
  *available = use.limit > use.used ? use.limit - use.used : 0;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  emulator::Allocation block;
  void* address = const_cast<void*>(pointer);
  if (!emulator::find_allocation(pointer, &block)) {
    *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, nullptr};
  } else if (block.kind == Kind::device) {
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
  const emulator::MemoryUse use = emulator::memory_use();
  uint64_t answer = 0;
  if (attribute == cudaMemPoolAttrReleaseThreshold) answer = pool->release_threshold;
  if (attribute == cudaMemPoolAttrUsedMemCurrent) answer = use.used;
  if (attribute == cudaMemPoolAttrReservedMemCurrent) answer = use.used;
  if (attribute == cudaMemPoolAttrUsedMemHigh) answer = use.most_used;
  if (attribute == cudaMemPoolAttrReservedMemHigh) answer = use.most_used;
  std::memcpy(value, &answer, sizeof answer);
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

}  // namespace pymodel::simt
