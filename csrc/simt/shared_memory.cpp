#include "simt/shared_memory.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#include "simt/block.h"
#include "simt/poison.h"
#include "simt/static_shared.h"

namespace pymodel::simt::emulator {
namespace {

constexpr size_t kGuardBytes = 256;  // on either side

std::unique_ptr<unsigned char[]> storage;
size_t capacity = 0;
unsigned char* shared = nullptr;
size_t shared_bytes = 0;

bool inside(const void* address, size_t bytes, const void* begin, const void* end) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  return at >= reinterpret_cast<uintptr_t>(begin) && at + bytes <= reinterpret_cast<uintptr_t>(end);
}

}  // namespace

void size_shared(size_t bytes) {
  const size_t total = bytes + 2 * kGuardBytes + kSharedAlignment;
  if (total > capacity) {
    allow_access(storage.get(), capacity);
    storage.reset(new unsigned char[total]);
    capacity = total;
  }
  const auto first = reinterpret_cast<uintptr_t>(storage.get()) + kGuardBytes;
  shared = reinterpret_cast<unsigned char*>((first + kSharedAlignment - 1) / kSharedAlignment *
                                            kSharedAlignment);
  shared_bytes = bytes;
  allow_access(storage.get(), capacity);
  std::memset(shared - kGuardBytes, kGuard, kGuardBytes);
  std::memset(shared + bytes, kGuard, kGuardBytes);
  forbid_access(storage.get(), shared - storage.get());
  forbid_access(shared + bytes, kGuardBytes);
}

void poison_shared() {
  if (shared_bytes > 0) std::memset(shared, kPoison, shared_bytes);
}

std::string check_shared_guards() {
  const std::string size = std::to_string(shared_bytes) + " bytes of dynamic shared memory";
  const size_t before = written_before(shared, kGuardBytes);
  if (before > 0) return "a write " + std::to_string(before) + " bytes before " + size;
  const size_t after = written_after(shared + shared_bytes, kGuardBytes);
  if (after == kGuardBytes) return {};
  return "a write at byte " + std::to_string(shared_bytes + after) + " of " + size;
}

void* dynamic_shared_memory() { return shared; }

void check_shared(const void* address, size_t bytes, const char* operation) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    fail(std::string(operation) + ": the address " + describe_shared(address) +
         " is not a multiple of " + std::to_string(bytes));
  }
  if (inside(address, bytes, shared, shared + shared_bytes)) return;
  if (in_static_shared(address, bytes)) return;
  fail(std::string(operation) + ": the address " + describe_shared(address) +
       " is not in shared memory, whose dynamic part has " + std::to_string(shared_bytes) +
       " bytes");
}

std::string describe_shared(const void* address) {
  char text[48];
  if (inside(address, 0, shared, shared + shared_bytes)) {
    const auto offset = static_cast<const unsigned char*>(address) - shared;
    std::snprintf(text, sizeof text, "shared memory + %td", offset);
  } else {
    std::snprintf(text, sizeof text, "%p", address);
  }
  return text;
}

}  // namespace pymodel::simt::emulator
