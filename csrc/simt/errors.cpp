#include "simt/errors.h"

#include "simt/runtime.h"

namespace pymodel::simt {
namespace emulator {
namespace {

thread_local cudaError_t latest = cudaSuccess;
thread_local std::string report;

}  // namespace

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) latest = error;
  return error;
}

cudaError_t note_failure(std::string text) {
  report = std::move(text);
  return note(cudaErrorLaunchFailure);
}

const char* last_error_report() { return report.c_str(); }

}  // namespace emulator

cudaError_t cudaGetLastError() {
  const cudaError_t error = emulator::latest;
  emulator::latest = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return emulator::latest; }

#define PYMODEL_SIMT_CASE(name, value, text) \
  case name:                                 \
    return text;
const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorLaunchFailure && !emulator::report.empty()) {
    return emulator::report.c_str();
  }
  switch (error) { PYMODEL_SIMT_ERRORS(PYMODEL_SIMT_CASE) }
  return "unrecognized error code";
}
#undef PYMODEL_SIMT_CASE

#define PYMODEL_SIMT_CASE(name, value, text) \
  case name:                                 \
    return #name;
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) { PYMODEL_SIMT_ERRORS(PYMODEL_SIMT_CASE) }
  return "unrecognized error code";
}
#undef PYMODEL_SIMT_CASE

}  // namespace pymodel::simt
