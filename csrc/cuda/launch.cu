#include <string>

#include "core/array.h"
#include "core/errors.h"
#include "cuda/launch.h"

namespace pymodel::PYMODEL_BACKEND {

[[noreturn]] static void throw_error(cudaError_t status, const std::string& text) {
  std::string message =
      text + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")";
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(message);
  // Errors inside a kernel stay with the process: the next call, whatever it is, fails as well.
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) {
    cudaGetLastError();
    message +=
        "; this process can use the GPU no more: start it anew, with PYMODEL_CUDA_BLOCKING=1 "
        "in the environment if the call that failed is not the one to blame";
  }
  throw DeviceError(message);
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the runtime keeps the error for the next caller, who has no part in it
  throw_error(status, what);
}

static int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "reading the properties of the device");
  return value;
}

Launch::Launch(const char* op, const Execution& on,
               std::initializer_list<const TensorView*> operands)
    : op_(op), on_(on) {
  for (const TensorView* operand : operands) {
    if (count_ < kMaxOperands && operand->data != nullptr) operands_[count_++] = operand;
  }
}

int Launch::multiprocessors() const {
  return attribute(cudaDevAttrMultiProcessorCount, on_.device.index);
}

void Launch::zero(void* data, size_t bytes) const {
  if (bytes > 0) check_launch(cudaMemsetAsync(data, 0, bytes, stream()));
}

void Launch::fail(cudaError_t status) const {
  cudaGetLastError();
  std::string text = std::string(op_) + " on " + device_name(on_.device);
  for (int i = 0; i < count_; ++i) {
    const TensorView& view = *operands_[i];
    text += (i == 0 ? " of " : ", ") + std::string(dtype_name(view.dtype)) + " " +
            shape_string({view.shape, view.shape + view.ndim});
  }
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, on_.device.index) ==
          cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, on_.device.index) ==
          cudaSuccess) {
    text += " (sm_" + std::to_string(major) + std::to_string(minor) + ")";
  }
  throw_error(status, text);
}

}  // namespace pymodel::PYMODEL_BACKEND
