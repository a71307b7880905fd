// The runtime's own rules: copies, limits, streams, captures.
#include <cstdint>

#include "harness.h"

namespace pymodel::simt::tests {
namespace {

__global__ void add_kernel(int* x, int value) { x[threadIdx.x] += value; }
__global__ void nothing_kernel(int*) {}
// Parameters are copied at the launch, or the capture.
struct Table {
  int value[64];
};
__global__ void table_kernel(int* x, const __grid_constant__ Table table) {
  x[threadIdx.x] = table.value[threadIdx.x];
}

cudaError_t launch_in(cudaStream_t stream, void (*kernel)(int*, int), int* x, int value) {
  cudaLaunchConfig_t config{};
  config.blockDim = 4;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, x, value);
}

SIMT_CASE(launch_limits) {
  DeviceArray<int> x(1);
  auto with = [&](dim3 grid, dim3 block, size_t shared) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    return cudaLaunchKernelEx(&config, nothing_kernel, x.data());
  };
  SIMT_EXPECT(with(1, 1025, 0) == cudaErrorInvalidConfiguration);
  SIMT_EXPECT(with(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration);
  SIMT_EXPECT(with(dim3(1, 65536), 1, 0) == cudaErrorInvalidConfiguration);
  SIMT_EXPECT(with(0, 1, 0) == cudaErrorInvalidConfiguration);
  SIMT_EXPECT(with(1, 1, 48 * 1024 + 1) == cudaErrorInvalidValue);
  SIMT_EXPECT(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess);
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  SIMT_EXPECT(cudaFuncSetAttribute(nothing_kernel, attribute, 227 * 1024 + 1) ==
              cudaErrorInvalidValue);
  SIMT_TRY(cudaFuncSetAttribute(nothing_kernel, attribute, 227 * 1024));
  SIMT_TRY(with(2, 1024, 227 * 1024));
  SIMT_TRY(cudaFuncSetAttribute(nothing_kernel, attribute, 48 * 1024));
  return "ok";
}

SIMT_CASE(copies) {
  DeviceArray<int> a(std::vector<int>{1, 2, 3, 4}), b(4);
  int host[8] = {};
  SIMT_TRY(cudaMemcpy(b.data(), a.data(), 16, cudaMemcpyDeviceToDevice));
  SIMT_TRY(cudaMemcpyAsync(host, b.data(), 16, cudaMemcpyDefault));
  SIMT_EXPECT(host[3] == 4);
  SIMT_EXPECT(cudaMemcpy(host, a.data(), 16, cudaMemcpyHostToHost) == cudaErrorInvalidValue);
  SIMT_EXPECT(cudaMemcpy(host, a.data(), 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  SIMT_EXPECT(cudaMemcpy(host, a.data(), 20, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  SIMT_EXPECT(cudaMemset(a.data() + 3, 0, 8) == cudaErrorInvalidValue);
  SIMT_EXPECT(cudaMemset(host, 0, 4) == cudaErrorInvalidValue);
  SIMT_EXPECT(cudaFree(a.data() + 1) == cudaErrorInvalidValue);
  SIMT_TRY(cudaMemset(a.data() + 3, 0, 4));
  SIMT_EXPECT((a.host() == std::vector<int>{1, 2, 3, 0}));
  return "ok";
}

SIMT_CASE(memory_limit) {
  size_t available = 0, total = 0;
  SIMT_TRY(cudaMemGetInfo(&available, &total));
  emulator::set_memory_limit(total - available + 1024);
  void *first = nullptr, *second = nullptr;
  const cudaError_t fits = cudaMalloc(&first, 1000), more = cudaMallocAsync(&second, 100, nullptr);
  SIMT_TRY(cudaMemGetInfo(&available, &total));
  emulator::set_memory_limit(0);
  SIMT_EXPECT(fits == cudaSuccess && more == cudaErrorMemoryAllocation && second == nullptr);
  SIMT_EXPECT(available == 24);
  SIMT_TRY(cudaFree(first));
  SIMT_EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
  return "ok";
}

SIMT_CASE(graph_replays) {
  DeviceArray<int> x(std::vector<int>{0, 0, 0, 0}), y(4);
  cudaStream_t stream, other;
  cudaEvent_t fork, join;
  SIMT_TRY(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  SIMT_TRY(cudaStreamCreate(&other));
  SIMT_TRY(cudaEventCreate(&fork));
  SIMT_TRY(cudaEventCreate(&join));
  SIMT_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  SIMT_TRY(launch_in(stream, add_kernel, x.data(), 3));
  // A second stream joins the capture through an event.
  SIMT_TRY(cudaEventRecord(fork, stream));
  SIMT_TRY(cudaStreamWaitEvent(other, fork));
  SIMT_TRY(cudaMemcpyAsync(y.data(), x.data(), 16, cudaMemcpyDeviceToDevice, other));
  SIMT_TRY(cudaEventRecord(join, other));
  SIMT_TRY(cudaStreamWaitEvent(stream, join));
  Table table{};
  table.value[2] = 5;
  cudaLaunchConfig_t config{};
  config.blockDim = 4;
  config.stream = stream;
  SIMT_TRY(cudaLaunchKernelEx(&config, table_kernel, x.data(), table));
  table.value[2] = 6;  // too late to be seen
  void* scratch;
  SIMT_TRY(cudaMallocAsync(&scratch, 64, stream));
  SIMT_TRY(cudaMemsetAsync(scratch, 1, 64, stream));
  SIMT_TRY(cudaFreeAsync(scratch, stream));
  cudaGraph_t graph;
  SIMT_TRY(cudaStreamEndCapture(stream, &graph));
  SIMT_EXPECT((x.host() == std::vector<int>{0, 0, 0, 0}));  // recorded, not run
  cudaGraphExec_t executable;
  SIMT_TRY(cudaGraphInstantiate(&executable, graph));
  SIMT_TRY(cudaGraphDestroy(graph));
  for (int run = 0; run < 2; ++run) SIMT_TRY(cudaGraphLaunch(executable, stream));
  SIMT_EXPECT((y.host() == std::vector<int>{3, 3, 8, 3}));
  SIMT_EXPECT((x.host() == std::vector<int>{0, 0, 5, 0}));
  SIMT_TRY(cudaGraphExecDestroy(executable));
  // The event marks a place in the capture, which is over.
  SIMT_EXPECT(cudaStreamWaitEvent(stream, fork) == cudaErrorCapturedEvent);
  SIMT_TRY(cudaEventDestroy(fork));
  SIMT_TRY(cudaEventDestroy(join));
  SIMT_TRY(cudaStreamDestroy(other));
  SIMT_TRY(cudaStreamDestroy(stream));
  return "ok";
}

// What a capture forbids, and that it is spoilt afterwards.
SIMT_CASE(capture_forbids) {
  DeviceArray<int> x(std::vector<int>{0, 0, 0, 0});
  void* memory = nullptr;
  int host[4];
  auto refused = [&](auto call, cudaError_t expected) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaStreamCreate(&stream);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    const bool right = call(stream) == expected &&
                       cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated;
    cudaStreamDestroy(stream);
    return right;
  };
  const auto unsupported = cudaErrorStreamCaptureUnsupported;
  SIMT_EXPECT(refused([](cudaStream_t s) { return cudaStreamSynchronize(s); }, unsupported));
  SIMT_EXPECT(refused([](cudaStream_t) { return cudaDeviceSynchronize(); }, unsupported));
  SIMT_EXPECT(refused([&](cudaStream_t) { return cudaMalloc(&memory, 4); }, unsupported));
  SIMT_EXPECT(
      refused([&](cudaStream_t) { return cudaMemcpy(host, x.data(), 16, cudaMemcpyDeviceToHost); },
              unsupported));
  SIMT_EXPECT(refused([&](cudaStream_t) { return launch_in(nullptr, add_kernel, x.data(), 1); },
                      cudaErrorStreamCaptureImplicit));
  cudaGetLastError();
  return "ok";
}

// A failure is reported once, by the launch; the device goes on working.
__global__ void failing_kernel(int*) { ptx::named_barrier_sync(77, 32); }

SIMT_CASE(failure_passes) {
  DeviceArray<int> x(std::vector<int>{1, 1, 1, 1});
  SIMT_EXPECT(launch(failing_kernel, 1, 32, 0, x.data()) == cudaErrorLaunchFailure);
  SIMT_EXPECT(cudaGetLastError() == cudaErrorLaunchFailure);
  SIMT_EXPECT(std::string(emulator::last_error_report()).find("barrier 77") != std::string::npos);
  SIMT_TRY(launch_in(nullptr, add_kernel, x.data(), 2));
  SIMT_TRY(cudaDeviceSynchronize());
  SIMT_EXPECT((x.host() == std::vector<int>{3, 3, 3, 3}));
  return "ok";
}

}  // namespace
}  // namespace pymodel::simt::tests
