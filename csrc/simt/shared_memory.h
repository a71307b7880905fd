// A block's dynamic shared memory.
//
// It is exactly as large as the launch asked for: what lies around it is filled with canaries that
// are checked after each block, and closed to AddressSanitizer. Every block starts with all bits
// set (NaN, and -1), since real shared memory starts with whatever the last block left.
#pragma once

#include <cstddef>
#include <string>

namespace pymodel::simt::emulator {

constexpr size_t kSharedAlignment = 128;
constexpr unsigned char kPoison = 0xff;

void size_shared(size_t bytes);  // before the first block of a grid
void poison_shared();            // before each block
// Empty when nobody has written beside the memory, else what was found.
std::string check_canaries();

void* dynamic_shared_memory();

// Ends the block unless `bytes` bytes from `address` lie in shared memory, dynamic or static, and
// `address` is a multiple of `bytes`.
void check_shared(const void* address, size_t bytes, const char* operation);
// "shared memory + 128"
std::string describe_shared(const void* address);

}  // namespace pymodel::simt::emulator
