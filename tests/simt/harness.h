// A program of small CUDA kernels for the emulator, each a case that says how its run went.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <string>
#include <utility>
#include <vector>

#include "cuda/ptx.cuh"

namespace pymodel::simt::tests {

// "ok", "wrong: ..." for results that are not right, "error: ..." with the emulator's report.
using Outcome = std::string;

struct Case {
  const char* name;
  Outcome (*run)();
};
std::vector<Case>& cases();

struct Registrar {
  Registrar(const char* name, Outcome (*run)()) { cases().push_back({name, run}); }
};

#define SIMT_CASE(name)                                        \
  static Outcome case_##name();                                \
  static const Registrar registrar_##name(#name, case_##name); \
  static Outcome case_##name()

inline Outcome error_text(cudaError_t error) {
  return std::string("error: ") + cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
}

// Ends a case when a call of the runtime fails, or a condition does not hold.
#define SIMT_TRY(call)                                            \
  do {                                                            \
    const cudaError_t simt_error = (call);                        \
    if (simt_error != cudaSuccess) return error_text(simt_error); \
  } while (false)
#define SIMT_EXPECT(condition) \
  if (!(condition)) return std::string("wrong: " #condition)

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   Arguments&&... arguments) {
  if (shared_bytes > 48 * 1024) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared_bytes));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// An array on the device.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) { cudaMalloc(&data_, count * sizeof(T)); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

constexpr unsigned kAll = 0xffffffffu;

}  // namespace pymodel::simt::tests
