// The one device, and the limits that launches are checked against: those of an H100 but for the
// number of multiprocessors.
#include <cstring>
#include <map>
#include <mutex>

#include "simt/block.h"
#include "simt/errors.h"
#include "simt/grid.h"
#include "simt/launch.h"
#include "simt/runtime.h"
#include "simt/stream.h"

namespace pymodel::simt {
namespace emulator {
namespace {

constexpr int kMultiprocessors = 4;
constexpr int kSharedDefault = 48 * 1024, kSharedMost = 227 * 1024;
constexpr int kSharedPerMultiprocessor = 228 * 1024, kThreadsPerMultiprocessor = 2048;
constexpr int kL2Bytes = 50 << 20, kRegistersPerBlock = 65536;
constexpr int kVersion = 13000;
constexpr unsigned kMostBlocksX = 0x7fffffff, kMostBlocksYZ = 65535, kMostThreadsZ = 64;

std::mutex mutex;
std::map<const void*, int> shared_limits;  // of kernels that have asked for more than the default

int shared_limit(const void* kernel) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto at = shared_limits.find(kernel);
  return at == shared_limits.end() ? kSharedDefault : at->second;
}

cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const bool some = grid.x && grid.y && grid.z && block.x && block.y && block.z;
  const bool fits = grid.x <= kMostBlocksX && grid.y <= kMostBlocksYZ && grid.z <= kMostBlocksYZ &&
                    block.x <= kMaxThreads && block.y <= kMaxThreads && block.z <= kMostThreadsZ &&
                    block.x * block.y * block.z <= kMaxThreads;
  if (!some || !fits) return cudaErrorInvalidConfiguration;
  if (config.dynamicSmemBytes > static_cast<size_t>(shared_limit(kernel))) {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   std::shared_ptr<const void> call, void (*body)(const void*)) {
  const cudaError_t error = check_launch(config, kernel);
  if (error != cudaSuccess) return note(error);
  return note(submit(config.stream, [=] {
    std::string report = run_grid(
        {kernel, config.gridDim, config.blockDim, config.dynamicSmemBytes, body, call.get()});
    return report.empty() ? cudaSuccess : note_failure(std::move(report));
  }));
}

}  // namespace emulator

using emulator::note;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > emulator::kSharedMost) return note(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  emulator::shared_limits[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  *attributes = {};
  attributes->maxThreadsPerBlock = emulator::kMaxThreads;
  attributes->maxDynamicSharedSizeBytes = emulator::shared_limit(kernel);
  attributes->ptxVersion = attributes->binaryVersion = 90;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return note(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = emulator::kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = emulator::kMaxThreads;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = emulator::kSharedDefault;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = warpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = emulator::kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = emulator::kL2Bytes;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = emulator::kThreadsPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = emulator::kSharedPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emulator::kSharedMost;
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
  }
  return note(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "SIMT emulator");
  size_t available;
  cudaMemGetInfo(&available, &properties->totalGlobalMem);
  properties->sharedMemPerBlock = emulator::kSharedDefault;
  properties->sharedMemPerBlockOptin = emulator::kSharedMost;
  properties->sharedMemPerMultiprocessor = emulator::kSharedPerMultiprocessor;
  properties->regsPerBlock = emulator::kRegistersPerBlock;
  properties->warpSize = warpSize;
  properties->maxThreadsPerBlock = emulator::kMaxThreads;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = emulator::kMaxThreads;
  properties->maxThreadsDim[2] = emulator::kMostThreadsZ;
  properties->maxGridSize[0] = static_cast<int>(emulator::kMostBlocksX);
  properties->maxGridSize[1] = properties->maxGridSize[2] = emulator::kMostBlocksYZ;
  properties->major = 9;
  properties->multiProcessorCount = emulator::kMultiprocessors;
  properties->l2CacheSize = emulator::kL2Bytes;
  properties->maxThreadsPerMultiProcessor = emulator::kThreadsPerMultiprocessor;
  return cudaSuccess;
}

}  // namespace pymodel::simt
