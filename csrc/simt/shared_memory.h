// A block's dynamic shared memory.
//
// It is exactly as large as the launch asked for, between guards that are checked after each block
// (poison.h). Every block starts with all bits set, since real shared memory starts with whatever
// the last block left.
#pragma once

#include <cstddef>
#include <string>

namespace pymodel::simt::emulator {

constexpr size_t kSharedAlignment = 128;

void size_shared(size_t bytes);  // before the first block of a grid
void poison_shared();            // before each block
// Empty when nobody has written beside the memory, else what was found.
std::string check_shared_guards();

void* dynamic_shared_memory();

// Ends the block unless `bytes` bytes from `address` lie in shared memory, dynamic or static, and
// `address` is a multiple of `bytes`.
void check_shared(const void* address, size_t bytes, const char* operation);
// "shared memory + 128", or the address where it does not lie there.
std::string describe_shared(const void* address);

}  // namespace pymodel::simt::emulator
