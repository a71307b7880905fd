// The backend of CUDA devices (core/backend.h), on the CUDA runtime that is linked in statically:
// nothing here runs before a device is asked for, so the module imports without a driver.
#include <cuda_runtime.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "core/backend.h"
#include "core/errors.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "cuda/range.h"

#ifndef __CUDA_ARCH_LIST__  // nvcc's list of what it compiles for: 800,900
#define __CUDA_ARCH_LIST__ 0
#endif

namespace pymodel::PYMODEL_BACKEND {

Backend& backend();

namespace {

__global__ void probe_kernel() {}

cudaStream_t stream_of(const Execution& on) { return static_cast<cudaStream_t>(on.stream); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }
cudaGraphExec_t graph_of(void* graph) { return static_cast<cudaGraphExec_t>(graph); }

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// "8.0, 9.0"
std::string built_for() {
  std::string text;
  for (const int architecture : {__CUDA_ARCH_LIST__}) {
    text += (text.empty() ? "" : ", ") + std::to_string(architecture / 100) + "." +
            std::to_string(architecture % 100 / 10);
  }
  return text;
}

// Why cudaGetDeviceCount() found nothing.
std::string reason_for(cudaError_t status) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  if (status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice) {
    if (driver == 0) {
      return "no NVIDIA driver was found; install one (nvidia-smi shows it), or use device='cpu'";
    }
    if (driver < runtime && status == cudaErrorInsufficientDriver) {
      return "the NVIDIA driver knows CUDA up to " + version_text(driver) +
             " and this build of pymodel uses " + version_text(runtime) +
             "; update the driver, or build pymodel with an older CUDA";
    }
  }
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return std::string("the NVIDIA driver shows no device (") + cudaGetErrorString(status) + ")" +
         (visible == nullptr ? "" : std::string("; CUDA_VISIBLE_DEVICES is '") + visible + "'");
}

// Empty when this build holds code that the device runs.
std::string missing_image(int index) {
  cudaFuncAttributes attributes{};
  int previous = 0;
  check(cudaGetDevice(&previous), "reading the current device");
  cudaError_t status = cudaSetDevice(index);
  if (status == cudaSuccess) {
    status = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&probe_kernel));
  }
  cudaGetLastError();
  cudaSetDevice(previous);
  if (status == cudaSuccess) return "";
  if (status != cudaErrorNoKernelImageForDevice && status != cudaErrorInvalidDeviceFunction) {
    return std::string("the device cannot be used: ") + cudaGetErrorString(status);
  }
  cudaDeviceProp properties{};
  cudaGetDeviceProperties(&properties, index);
  return std::string("the ") + properties.name + " has compute capability " +
         std::to_string(properties.major) + "." + std::to_string(properties.minor) +
         ", and this build of pymodel holds kernels for " + built_for() +
         "; build it with -DCMAKE_CUDA_ARCHITECTURES=" + std::to_string(properties.major) +
         std::to_string(properties.minor) + " (8.0 is the least), or use device='cpu'";
}

class CudaBackend final : public Backend {
 public:
  CudaBackend() {
    const cudaError_t status = cudaGetDeviceCount(&count_);
    if (status != cudaSuccess || count_ == 0) {
      count_ = 0;
      reason_ = reason_for(status);
      return;
    }
    count_ = std::min(count_, kMaxDevices);
    reason_ = missing_image(0);
    if (!reason_.empty()) count_ = 0;
    for (int i = 0; i < count_; ++i) memory_[i] = std::make_unique<DeviceMemory>(i);
  }

  int device_count() override { return count_; }
  std::string why_unavailable() override { return reason_; }

  std::string title(int index) override {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index), "reading the properties of the device");
    return properties.name;
  }

  int capability(int index) override {
    int major = 0, minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
          "reading the properties of the device");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
          "reading the properties of the device");
    return 10 * major + minor;
  }

  int exchange_device(int index) noexcept override {
    int previous = 0;
    cudaGetDevice(&previous);
    if (previous != index) cudaSetDevice(index);
    return previous;
  }

  // Memory

  void* allocate(size_t bytes, const Execution& on) override {
    const DeviceGuard guard(on.device);
    return memory(on.device.index).allocate(bytes, stream_of(on));
  }

  void release(void* data, size_t bytes, const Execution& on) noexcept override {
    const int previous = exchange_device(on.device.index);
    memory(on.device.index).release(data, bytes, stream_of(on));
    exchange_device(previous);
  }

  void empty_cache(int index) override {
    const DeviceGuard guard(device(index));
    memory(index).empty_cache();
  }

  DeviceMemoryStats memory_stats(int index) override {
    const DeviceGuard guard(device(index));
    return memory(index).stats();
  }

  void reset_peak_memory(int index) override { memory(index).reset_peak(); }

  void* allocate_pinned(size_t bytes) override { return pinned_.allocate(bytes); }
  void release_pinned(void* data, size_t bytes) noexcept override { pinned_.release(data, bytes); }

  int64_t* allocate_mapped(int index, int count) override {
    const DeviceGuard guard(device(index));
    void* data = nullptr;
    check(cudaHostAlloc(&data, sizeof(int64_t) * static_cast<size_t>(count),
                        cudaHostAllocMapped | cudaHostAllocPortable),
          "allocating mapped memory");
    return static_cast<int64_t*>(data);
  }

  void check_range(const TensorView& values, int64_t most, int64_t* slot,
                   const Execution& on) override {
    const DeviceGuard guard(on.device);
    PYMODEL_BACKEND::check_range(values, most, slot, on);
  }

  // Copies

  void copy(void* target, const void* source, size_t bytes, const Execution& on) override {
    if (bytes == 0) return;
    const DeviceGuard guard(on.device);
    // Where each pointer lies is read off its address.
    check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, stream_of(on)),
          "copying memory");
  }

  void hold_pinned(const void* data, const Execution& on) override {
    const DeviceGuard guard(on.device);
    pinned_.hold(data, stream_of(on));
  }

  // Streams and events

  void synchronize(const Execution& on) override {
    const DeviceGuard guard(on.device);
    check(cudaStreamSynchronize(stream_of(on)), "waiting for a stream");
  }

  void synchronize_device(int index) override {
    const DeviceGuard guard(device(index));
    check(cudaDeviceSynchronize(), "waiting for the device");
  }

  void* take_stream(int index) override {
    const DeviceGuard guard(device(index));
    std::lock_guard<std::mutex> lock(streams_mutex_);
    std::vector<cudaStream_t>& idle = idle_streams_[static_cast<size_t>(index)];
    if (!idle.empty()) {
      const cudaStream_t stream = idle.back();
      idle.pop_back();
      return stream;
    }
    cudaStream_t stream = nullptr;
    // Non-blocking: it waits for others, the default stream included, only where it is told to.
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return stream;
  }

  void give_stream(void* stream, int index) noexcept override {
    std::lock_guard<std::mutex> lock(streams_mutex_);
    idle_streams_[static_cast<size_t>(index)].push_back(static_cast<cudaStream_t>(stream));
  }

  void* create_event(int index) override {
    const DeviceGuard guard(device(index));
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "creating an event");
    return event;
  }

  void destroy_event(void* event) noexcept override { cudaEventDestroy(event_of(event)); }

  void record(void* event, const Execution& on) override {
    const DeviceGuard guard(on.device);
    check(cudaEventRecord(event_of(event), stream_of(on)), "recording an event");
  }

  void wait(const Execution& on, void* event) override {
    const DeviceGuard guard(on.device);
    check(cudaStreamWaitEvent(stream_of(on), event_of(event), 0), "waiting for an event");
  }

  void synchronize_event(void* event) override {
    check(cudaEventSynchronize(event_of(event)), "waiting for an event");
  }

  double elapsed_ms(void* start, void* end) override {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, event_of(start), event_of(end)),
          "reading the time between two events");
    return milliseconds;
  }

  // Graphs

  void begin_capture(const Execution& on) override {
    const DeviceGuard guard(on.device);
    memory(on.device.index).begin_capture(stream_of(on));
    const cudaError_t status =
        cudaStreamBeginCapture(stream_of(on), cudaStreamCaptureModeThreadLocal);
    if (status != cudaSuccess) memory(on.device.index).end_capture(stream_of(on), nullptr);
    check(status, "starting the capture of a graph");
  }

  void* end_capture(const Execution& on) override {
    const DeviceGuard guard(on.device);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaError_t status = cudaStreamEndCapture(stream_of(on), &graph);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&executable, graph, 0);
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (status != cudaSuccess) executable = nullptr;
    memory(on.device.index).end_capture(stream_of(on), executable);
    check(status, "capturing a graph");
    return executable;
  }

  bool capturing(const Execution& on) override {
    const DeviceGuard guard(on.device);
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    // The default stream answers with an error while another stream is being captured.
    const bool known = cudaStreamIsCapturing(stream_of(on), &status) == cudaSuccess;
    if (!known) cudaGetLastError();
    return known && status != cudaStreamCaptureStatusNone;
  }

  void launch_graph(void* graph, const Execution& on) override {
    const DeviceGuard guard(on.device);
    check(cudaGraphLaunch(graph_of(graph), stream_of(on)), "replaying a graph");
  }

  void destroy_graph(void* graph) noexcept override {
    cudaGraphExecDestroy(graph_of(graph));
    for (int i = 0; i < count_; ++i)
      memory_[static_cast<size_t>(i)]->destroy_graph(graph_of(graph));
  }

 private:
  static Device device(int index) { return Device{DeviceType::PYMODEL_BACKEND, index}; }
  DeviceMemory& memory(int index) { return *memory_[static_cast<size_t>(index)]; }

  int count_ = 0;
  std::string reason_;
  std::array<std::unique_ptr<DeviceMemory>, kMaxDevices> memory_;
  PinnedMemory pinned_;
  std::mutex streams_mutex_;
  std::array<std::vector<cudaStream_t>, kMaxDevices> idle_streams_;
};

}  // namespace

// Never destroyed: tensors may be released after static destructors have run.
Backend& backend() {
  static Backend* const instance = new CudaBackend;
  return *instance;
}

}  // namespace pymodel::PYMODEL_BACKEND
