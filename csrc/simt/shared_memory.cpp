#include "simt/shared_memory.h"

#include <cstdint>
#include <cstring>
#include <memory>

#include "simt/block.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) (void)(address), (void)(bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) (void)(address), (void)(bytes)
#endif

// Variables of this module that start as zero, static shared memory among them.
extern "C" __attribute__((visibility("hidden"))) char __bss_start, _end;

namespace pymodel::simt::emulator {
namespace {

constexpr size_t kCanaryBytes = 256;  // on either side
constexpr unsigned char kCanary = 0xa5;

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
  const size_t total = bytes + 2 * kCanaryBytes + kSharedAlignment;
  if (total > capacity) {
    ASAN_UNPOISON_MEMORY_REGION(storage.get(), capacity);
    storage.reset(new unsigned char[total]);
    capacity = total;
  }
  const auto first = reinterpret_cast<uintptr_t>(storage.get()) + kCanaryBytes;
  shared = reinterpret_cast<unsigned char*>((first + kSharedAlignment - 1) / kSharedAlignment *
                                            kSharedAlignment);
  shared_bytes = bytes;
  ASAN_UNPOISON_MEMORY_REGION(storage.get(), capacity);
  std::memset(shared - kCanaryBytes, kCanary, kCanaryBytes);
  std::memset(shared + bytes, kCanary, kCanaryBytes);
  ASAN_POISON_MEMORY_REGION(storage.get(), shared - storage.get());
  ASAN_POISON_MEMORY_REGION(shared + bytes, kCanaryBytes);
}

void poison_shared() {
  if (shared_bytes > 0) std::memset(shared, kPoison, shared_bytes);
}

#if defined(__SANITIZE_ADDRESS__)

std::string check_canaries() { return {}; }  // AddressSanitizer has stopped at the access itself

#else

std::string check_canaries() {
  for (size_t i = 1; i <= kCanaryBytes; ++i) {
    if (shared[-static_cast<ptrdiff_t>(i)] != kCanary) {
      return "a write " + std::to_string(i) + " bytes before dynamic shared memory";
    }
  }
  for (size_t i = 0; i < kCanaryBytes; ++i) {
    if (shared[shared_bytes + i] != kCanary) {
      return "a write at byte " + std::to_string(shared_bytes + i) + " of the " +
             std::to_string(shared_bytes) + " bytes of dynamic shared memory";
    }
  }
  return {};
}

#endif

void* dynamic_shared_memory() { return shared; }

void check_shared(const void* address, size_t bytes, const char* operation) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    fail(std::string(operation) + ": the address " + describe_shared(address) +
         " is not a multiple of " + std::to_string(bytes));
  }
  if (inside(address, bytes, shared, shared + shared_bytes)) return;
  if (inside(address, bytes, &__bss_start, &_end)) return;
  fail(std::string(operation) + ": the address " + describe_shared(address) +
       " is not in shared memory, whose dynamic part has " + std::to_string(shared_bytes) +
       " bytes");
}

std::string describe_shared(const void* address) {
  const auto offset = static_cast<const unsigned char*>(address) - shared;
  return "shared memory " + std::string(offset < 0 ? "- " : "+ ") +
         std::to_string(offset < 0 ? -offset : offset);
}

}  // namespace pymodel::simt::emulator
