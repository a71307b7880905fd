// Names of functions, for reports.
#pragma once

#include <string>

namespace pymodel::simt::emulator {

// The readable name of the function at `address`, from the symbol table of the module that holds
// it; its address where the module was stripped.
std::string function_name(const void* address);

}  // namespace pymodel::simt::emulator
