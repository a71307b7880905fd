// Host memory that is kept and handed out again, so that a warm training step maps no new pages.
#pragma once

#include <cstddef>

namespace pymodel {

struct AllocatorStats {
  size_t in_use = 0;              // bytes handed out
  size_t peak_in_use = 0;         // their maximum since the last reset
  size_t cached = 0;              // bytes kept for later
  size_t system_allocations = 0;  // times that memory was asked of the operating system
};

// At least `bytes` bytes, aligned to 64 (a cache line and an AVX-512 vector). Throws OutOfMemory.
void* allocate(size_t bytes);

// Gives back what allocate(bytes) returned.
void release(void* pointer, size_t bytes) noexcept;

// Returns all cached memory to the operating system.
void empty_cache() noexcept;

AllocatorStats allocator_stats();
void reset_peak_memory();

}  // namespace pymodel
