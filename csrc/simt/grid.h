// Running a grid: blocks one after the other, in the order of the schedule, on the calling thread.
//
// One grid runs at a time in the process, since a block's static shared memory is static.
#pragma once

#include <cstddef>
#include <string>

#include "simt/vector_types.h"

namespace pymodel::simt::emulator {

struct Grid {
  const void* kernel;  // for reports
  dim3 blocks, threads;
  size_t shared_bytes;
  void (*body)(const void*);  // what one thread does
  const void* argument;
};

// The empty string, or the report of the error that ended the grid.
std::string run_grid(const Grid& grid);

}  // namespace pymodel::simt::emulator
