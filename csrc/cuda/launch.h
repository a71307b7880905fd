// Launching kernels: the one place where a grid starts and where its errors are looked at.
//
//   const Launch launch("softmax_forward", on, {&args.x, &args.y});
//   launch(softmax_kernel<T>, grid, block, shared_bytes, x, y, rows, columns);
//
// Kernels are launched by function call, never by <<<>>>: that is what lets the emulator compile
// the same source as plain C++.
#pragma once

#include <cuda_runtime.h>

#include <initializer_list>

#include "core/execution.h"
#include "core/tensor_view.h"

namespace pymodel::PYMODEL_BACKEND {

// Throws DeviceError (OutOfMemory where memory ran out) when `status` is an error; `what` says
// what was tried.
void check(cudaError_t status, const char* what);

class Launch {
 public:
  static constexpr int kMaxOperands = 8;
  static constexpr size_t kDefaultShared = 48 * 1024;  // more must be asked for, kernel by kernel

  // `operands` are the tensors that an error is to show; pointers must outlive the Launch.
  Launch(const char* op, const Execution& on, std::initializer_list<const TensorView*> operands);

  // An empty grid launches nothing. `arguments` are converted to the kernel's parameters.
  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                  Arguments&&... arguments) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared_bytes > kDefaultShared) {
      check_launch(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                        cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shared_bytes)));
    }
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream();
    check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
  }

  cudaStream_t stream() const { return static_cast<cudaStream_t>(on_.stream); }

  // Streaming multiprocessors of the device, for persistent grids whose results do not depend on
  // the number of blocks.
  int multiprocessors() const;

  // Sets `bytes` bytes of device memory to zero, in the stream.
  void zero(void* data, size_t bytes) const;

 private:
  void check_launch(cudaError_t status) const {
    if (status != cudaSuccess) fail(status);
  }
  // DeviceError naming the op, its operands and the GPU's architecture.
  [[noreturn]] void fail(cudaError_t status) const;

  const char* op_;
  Execution on_;
  const TensorView* operands_[kMaxOperands] = {};
  int count_ = 0;
};

// ceil(count / size) as an extent of a grid.
inline unsigned blocks_for(int64_t count, int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

// Notes that the element at `position` is invalid; the smallest position wins, on every run. A slot
// holds -1, the largest unsigned number, while all is well. Null slots take no notes.
__device__ inline void report_fault(int64_t* slot, int64_t position) {
  if (slot == nullptr) return;
  atomicMin(reinterpret_cast<unsigned long long*>(slot), static_cast<unsigned long long>(position));
}

}  // namespace pymodel::PYMODEL_BACKEND
