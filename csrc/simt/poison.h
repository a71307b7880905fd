// Marks in memory: all bits set where nothing was written yet, guard bytes where nothing may be.
//
// Guards are read back to find writes. Under AddressSanitizer they are closed instead, and any
// access stops the program at once.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace pymodel::simt::emulator {

constexpr unsigned char kPoison = 0xff;  // NaN as a floating-point number, -1 as an integer
constexpr unsigned char kGuard = 0xa5;

#if defined(__SANITIZE_ADDRESS__)

inline void forbid_access(void* begin, size_t bytes) { __asan_poison_memory_region(begin, bytes); }
inline void allow_access(void* begin, size_t bytes) { __asan_unpoison_memory_region(begin, bytes); }
inline size_t written_before(const unsigned char*, size_t) { return 0; }
inline size_t written_after(const unsigned char*, size_t bytes) { return bytes; }

#else

inline void forbid_access(void*, size_t) {}
inline void allow_access(void*, size_t) {}

inline bool untouched(const unsigned char* begin, size_t bytes) {
  static constexpr size_t kStep = 64;
  static const std::array<unsigned char, kStep> pattern = [] {
    std::array<unsigned char, kStep> filled;
    filled.fill(kGuard);
    return filled;
  }();
  for (; bytes > 0; begin += std::min(bytes, kStep), bytes -= std::min(bytes, kStep)) {
    if (std::memcmp(begin, pattern.data(), std::min(bytes, kStep)) != 0) return false;
  }
  return true;
}

// How far before `end` the first write to its guard lies; 0 when there was none.
inline size_t written_before(const unsigned char* end, size_t bytes) {
  if (untouched(end - bytes, bytes)) return 0;
  while (*(end - bytes) == kGuard) --bytes;
  return bytes;
}

// The first byte of the guard that was written to; `bytes` when there is none.
inline size_t written_after(const unsigned char* begin, size_t bytes) {
  if (untouched(begin, bytes)) return bytes;
  size_t i = 0;
  while (begin[i] == kGuard) ++i;
  return i;
}

#endif

}  // namespace pymodel::simt::emulator
