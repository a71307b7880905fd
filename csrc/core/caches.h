// How large the processor's caches are, for the cutting of work into blocks that fit them.
#pragma once

#include <cstdint>

namespace pymodel {

// Bytes of the second-level cache of one core, as the system tells or as the environment variable
// PYMODEL_CPU_L2 sets; where neither says anything sensible, 1 MiB. Asked for once.
//
// Only what has no influence on results may depend on it: rows and columns of a block, and never
// how a sum is cut into parts.
int64_t second_level_cache();

}  // namespace pymodel
