// Static shared memory: the `__shared__` variables of all kernels, which are static variables here.
// Where the compiler cannot keep them apart from others (cuda_keywords.h), they start as zero, and
// every address passes for one of theirs.
#pragma once

#include <cstddef>

namespace pymodel::simt::emulator {

// Sets all bits, before each grid: a variable that a block reads before it writes is not zero.
void poison_static_shared();

bool in_static_shared(const void* address, size_t bytes);

}  // namespace pymodel::simt::emulator
