// The error that the runtime keeps until somebody asks for it.
#pragma once

#include <string>

#include "simt/runtime_types.h"

namespace pymodel::simt::emulator {

// Notes `error`, unless it is success, as this OS thread's latest, and returns it.
cudaError_t note(cudaError_t error);
// A kernel has failed: the report is what cudaGetErrorString() then says.
cudaError_t note_failure(std::string report);

}  // namespace pymodel::simt::emulator
