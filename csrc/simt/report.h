// The text that says what went wrong in a kernel, and where every warp stood.
#pragma once

#include <cstdint>
#include <string>

namespace pymodel::simt::emulator {

std::string hexadecimal(uint32_t mask);
std::string lane_list(uint32_t lanes);  // "lanes 0-3, 8"

// Set by the launch, for the head of a report.
void name_kernel(const void* kernel);

// `problem` under a line that names the kernel, block, thread and schedule, above one line for
// each group of lanes that wait at the same place.
std::string failure_report(const std::string& problem);
// The same for errors found after a block, or the whole grid, has ended.
std::string block_report(const std::string& problem);
std::string grid_report(const std::string& problem);

}  // namespace pymodel::simt::emulator
