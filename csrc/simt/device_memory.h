// The register of device and pinned memory, which copies are checked against.
//
// Memory is ordinary memory of exactly the size asked for, between guard bytes that show writes
// beside it; AddressSanitizer is told not to allow any access there.
#pragma once

#include <cstddef>
#include <string>

#include "simt/runtime_types.h"

namespace pymodel::simt::emulator {

enum class Kind { device, pinned, registered };

struct Allocation {
  void* begin;
  size_t bytes;
  Kind kind;
};

// Device memory counts against the limit and starts with all bits set.
cudaError_t allocate(void** pointer, size_t bytes, Kind kind);
cudaError_t release(void* pointer, Kind kind);

// Memory that the process has, noted as pinned.
cudaError_t register_memory(void* pointer, size_t bytes);
cudaError_t unregister_memory(void* pointer);

// Copies what is known of the allocation that holds `pointer`; false when there is none.
bool find_allocation(const void* pointer, Allocation* found);
// Whether the range lies wholly in one allocation on the device.
bool on_device(const void* pointer, size_t bytes);
// Whether a copy has the direction that `kind` says, and stays inside its allocations.
cudaError_t check_copy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind);

// Empty when no guard has been written to since the last call, else where one was.
std::string check_guards();

struct MemoryUse {
  size_t used, most_used, limit;
};
MemoryUse memory_use();

}  // namespace pymodel::simt::emulator
