// What the file of this module (the shared library or program that the emulator is part of) says of
// its functions and sections.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace pymodel::simt::emulator {

// The readable name of the function at `address`, from the symbol table; the address itself where
// the module was stripped.
std::string function_name(const void* address);

struct Range {
  void* begin;
  size_t bytes;
};
// Where the sections lie in memory whose names begin with `prefix`.
std::vector<Range> sections(const std::string& prefix);

}  // namespace pymodel::simt::emulator
