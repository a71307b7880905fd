// Which instruction set the CPU kernels run with.
#pragma once

#include <string>

namespace pymodel {

// In the order of preference; every later one includes the earlier.
enum class Isa { generic, avx2, avx512, avx512_bf16 };

// The best set this machine and its operating system support, or the one that the environment
// variable PYMODEL_CPU_ISA names. Throws std::invalid_argument for an unknown or unsupported name.
Isa active_isa();

// The best set of this machine, whatever the environment says.
Isa detected_isa();

const char* isa_name(Isa isa);

}  // namespace pymodel
