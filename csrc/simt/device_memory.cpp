#include "simt/device_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "simt/poison.h"
#include "simt/runtime.h"

namespace pymodel::simt::emulator {
namespace {

constexpr size_t kDefaultLimit = size_t{4} << 30;
constexpr size_t kAlignment = 256;  // that of cudaMalloc, and so the least guard before a block
constexpr size_t kGuardAfter = 64;

std::mutex mutex;
std::map<uintptr_t, Allocation> allocations;
size_t used = 0, most_used = 0, limit = kDefaultLimit;

uintptr_t number(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }
unsigned char* bytes_of(const Allocation& block) {
  return static_cast<unsigned char*>(block.begin);
}

// The functions that follow are called with the mutex held.

const Allocation* find(const void* pointer) {
  auto after = allocations.upper_bound(number(pointer));
  if (after == allocations.begin()) return nullptr;
  const Allocation& block = (--after)->second;
  return number(pointer) < number(block.begin) + block.bytes ? &block : nullptr;
}

bool is_device(const Allocation* block) { return block != nullptr && block->kind == Kind::device; }

// Whether the range lies wholly on the side that it is said to be on.
bool lies_on(bool device, const void* pointer, size_t bytes) {
  const Allocation* block = find(pointer);
  if (is_device(block) != device) return false;
  return !device || number(pointer) + bytes <= number(block->begin) + block->bytes;
}

void close_guards(const Allocation& block) {
  std::memset(bytes_of(block) - kAlignment, kGuard, kAlignment);
  std::memset(bytes_of(block) + block.bytes, kGuard, kGuardAfter);
  forbid_access(bytes_of(block) - kAlignment, kAlignment);
  forbid_access(bytes_of(block) + block.bytes, kGuardAfter);
}

void open_guards(const Allocation& block) {
  allow_access(bytes_of(block) - kAlignment, kAlignment + block.bytes + kGuardAfter);
}

std::string describe_overrun(const Allocation& block) {
  const std::string size = std::to_string(block.bytes) + " bytes of global memory";
  const size_t before = written_before(bytes_of(block), kAlignment);
  if (before > 0) return "a write " + std::to_string(before) + " bytes before " + size;
  const size_t after = written_after(bytes_of(block) + block.bytes, kGuardAfter);
  if (after == kGuardAfter) return {};
  return "a write at byte " + std::to_string(block.bytes + after) + " of " + size;
}

}  // namespace

cudaError_t allocate(void** pointer, size_t bytes, Kind kind) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard<std::mutex> lock(mutex);
  if (kind == Kind::device && (bytes > limit || used > limit - bytes)) {
    return cudaErrorMemoryAllocation;
  }
  void* memory = nullptr;
  if (bytes > SIZE_MAX / 2 ||
      posix_memalign(&memory, kAlignment, kAlignment + bytes + kGuardAfter) != 0) {
    return cudaErrorMemoryAllocation;
  }
  const Allocation block{static_cast<char*>(memory) + kAlignment, bytes, kind};
  if (kind == Kind::device) {
    std::memset(block.begin, kPoison, bytes);
    used += bytes;
    most_used = std::max(most_used, used);
  }
  close_guards(block);
  allocations[number(block.begin)] = block;
  *pointer = block.begin;
  return cudaSuccess;
}

cudaError_t release(void* pointer, Kind kind) {
  if (pointer == nullptr) return cudaSuccess;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto at = allocations.find(number(pointer));
  if (at == allocations.end() || at->second.kind != kind) return cudaErrorInvalidValue;
  const Allocation block = at->second;
  allocations.erase(at);
  if (kind == Kind::device) used -= block.bytes;
  open_guards(block);
  std::memset(block.begin, kPoison, block.bytes);
  std::free(bytes_of(block) - kAlignment);
  return cudaSuccess;
}

cudaError_t register_memory(void* pointer, size_t bytes) {
  if (pointer == nullptr || bytes == 0) return cudaErrorInvalidValue;
  const std::lock_guard<std::mutex> lock(mutex);
  if (find(pointer) != nullptr) return cudaErrorHostMemoryAlreadyRegistered;
  allocations[number(pointer)] = {pointer, bytes, Kind::registered};
  return cudaSuccess;
}

cudaError_t unregister_memory(void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto at = allocations.find(number(pointer));
  if (at == allocations.end() || at->second.kind != Kind::registered) {
    return cudaErrorHostMemoryNotRegistered;
  }
  allocations.erase(at);
  return cudaSuccess;
}

bool find_allocation(const void* pointer, Allocation* found) {
  const std::lock_guard<std::mutex> lock(mutex);
  const Allocation* block = find(pointer);
  if (block != nullptr) *found = *block;
  return block != nullptr;
}

bool on_device(const void* pointer, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  return lies_on(true, pointer, bytes);
}

cudaError_t check_copy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr) return cudaErrorInvalidValue;
  const std::lock_guard<std::mutex> lock(mutex);
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    to_device = is_device(find(to));
    from_device = is_device(find(from));
  }
  const bool right = lies_on(to_device, to, bytes) && lies_on(from_device, from, bytes);
  return right ? cudaSuccess : cudaErrorInvalidValue;
}

std::string check_guards() {
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [begin, block] : allocations) {
    if (block.kind == Kind::registered) continue;
    std::string overrun = describe_overrun(block);
    if (overrun.empty()) continue;
    close_guards(block);
    return overrun;
  }
  return {};
}

MemoryUse memory_use() {
  const std::lock_guard<std::mutex> lock(mutex);
  return {used, most_used, limit};
}

void set_memory_limit(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  limit = bytes == 0 ? kDefaultLimit : bytes;
}

}  // namespace pymodel::simt::emulator
