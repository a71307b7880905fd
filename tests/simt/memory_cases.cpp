// Grids, atomics, the memory of a block and of the device.
#include <cmath>

#include "harness.h"

namespace pymodel::simt::tests {
namespace {

// ---------------------------------------------------------------------------------------------
// Right

// seen (blocks, threads): each thread writes its linear number where it belongs.
__global__ void number_kernel(int* seen) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  atomicAdd(seen + block * threads + thread, static_cast<int>(block * threads + thread));
}

SIMT_CASE(every_thread_once) {
  const dim3 grid(3, 5, 2), block(7, 3, 2);
  DeviceArray<int> seen(std::vector<int>(30 * 42, 1));
  SIMT_TRY(launch(number_kernel, grid, block, 0, seen.data()));
  const std::vector<int> got = seen.host();
  for (int i = 0; i < 30 * 42; ++i) SIMT_EXPECT(got[i] == i + 1);
  return "ok";
}

// The last block to finish adds up what all blocks have left.
__global__ void last_block_kernel(const float* x, int n, float* partial, unsigned* ticket,
                                  float* y) {
  __shared__ float warps[8];
  __shared__ bool last;
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    sum += x[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += warps[warp];
    partial[blockIdx.x] = total;
    __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  float total = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) total += partial[block];
  *y = total;
}

SIMT_CASE(last_block_sums) {
  constexpr int n = 100003, blocks = 13;
  std::vector<float> x(n);
  double expected = 0;
  for (int i = 0; i < n; ++i) expected += x[i] = static_cast<float>(i % 17);
  const DeviceArray<float> on_device(x);
  DeviceArray<float> partial(blocks), y(1);
  DeviceArray<unsigned> ticket(std::vector<unsigned>{0});
  SIMT_TRY(launch(last_block_kernel, blocks, 256, 0, on_device.data(), n, partial.data(),
                  ticket.data(), y.data()));
  SIMT_EXPECT(y.host()[0] == expected);
  return "ok";
}

__global__ void atomics_kernel(int* x, float* f, unsigned long long* wide) {
  atomicAdd(x, 2);
  atomicMax(x + 1, static_cast<int>(threadIdx.x));
  atomicMin(x + 2, -static_cast<int>(threadIdx.x));
  atomicOr(x + 3, 1 << threadIdx.x % 8);
  atomicAnd(x + 4, ~(1 << threadIdx.x % 8));
  atomicExch(x + 5, 9);
  atomicAdd(f, 0.5f);
  atomicMin(wide, 100ull + threadIdx.x);
}

SIMT_CASE(atomics) {
  DeviceArray<int> x(std::vector<int>{0, 0, 0, 0, -1, 0});
  DeviceArray<float> f(std::vector<float>{0});
  DeviceArray<unsigned long long> wide(std::vector<unsigned long long>{~0ull});
  SIMT_TRY(launch(atomics_kernel, 2, 64, 0, x.data(), f.data(), wide.data()));
  SIMT_EXPECT((x.host() == std::vector<int>{256, 63, -63, 255, -256, 9}));
  SIMT_EXPECT(f.host()[0] == 64.0f && wide.host()[0] == 100);
  return "ok";
}

__global__ void unset_kernel(float* out) {
  out[threadIdx.x] = ptx::dynamic_shared<float>()[threadIdx.x];
  ptx::dynamic_shared<float>()[threadIdx.x] = 1;  // the next block must not see it
}

template <typename T>
__global__ void unset_static_kernel(T* out) {
  __shared__ T shared[32];
  out[threadIdx.x] = shared[threadIdx.x];
  __syncthreads();
  shared[threadIdx.x] = 1;
}

SIMT_CASE(memory_starts_as_nan) {
  DeviceArray<float> out(32), untouched(8);
  SIMT_TRY(launch(unset_static_kernel<double>, 1, 32, 0, DeviceArray<double>(32).data()));
  for (int run = 0; run < 2; ++run) {
    SIMT_TRY(launch(unset_static_kernel<float>, 1, 32, 0, out.data()));
    for (const float value : out.host()) SIMT_EXPECT(std::isnan(value));
  }
  SIMT_TRY(launch(unset_kernel, 4, 32, 128, out.data()));
  for (const float value : out.host()) SIMT_EXPECT(std::isnan(value));
  for (const float value : untouched.host()) SIMT_EXPECT(std::isnan(value));
  return "ok";
}

// ---------------------------------------------------------------------------------------------
// Wrong

__global__ void shared_overrun_kernel(float*) { ptx::dynamic_shared<float>()[threadIdx.x + 1] = 1; }
__global__ void shared_underrun_kernel(float*) {
  ptx::dynamic_shared<float>()[static_cast<int>(threadIdx.x) - 1] = 1;
}
__global__ void global_overrun_kernel(float* x) { x[threadIdx.x + 1] = 1; }
__global__ void global_overread_kernel(float* x) {
  if (x[threadIdx.x + 1] == 7) x[0] = 1;
}
__global__ void throwing_kernel(float* x) {
  std::vector<float> values(4);
  x[0] = values.at(threadIdx.x);
}
__global__ void null_kernel(float*) {
  float* volatile unset = nullptr;
  volatile float* nowhere = unset;
  *nowhere = 1;
}
__global__ void division_kernel(float* x) {
  volatile int zero = 0;
  x[0] = static_cast<float>(7 / zero);
}
__device__ __attribute__((noinline)) int recurse(int depth, volatile int* frame) {
  volatile int here[1024];
  here[0] = depth + *frame;
  return depth == 0 ? here[0] : recurse(depth - 1, here) + here[0];
}
__global__ void deep_kernel(float* x) {
  volatile int start = 1;
  x[0] = static_cast<float>(recurse(1000, &start));
}

Outcome run_wrong(void (*kernel)(float*)) {
  DeviceArray<float> x(32);
  SIMT_TRY(launch(kernel, 1, 32, 128, x.data()));
  return "ok";
}

}  // namespace

SIMT_CASE(shared_overrun) { return run_wrong(shared_overrun_kernel); }
SIMT_CASE(shared_underrun) { return run_wrong(shared_underrun_kernel); }
SIMT_CASE(global_overrun) { return run_wrong(global_overrun_kernel); }
SIMT_CASE(global_overread) { return run_wrong(global_overread_kernel); }
SIMT_CASE(null_pointer) { return run_wrong(null_kernel); }
SIMT_CASE(division_by_zero) { return run_wrong(division_kernel); }
SIMT_CASE(stack_overflow) { return run_wrong(deep_kernel); }
SIMT_CASE(throwing) { return run_wrong(throwing_kernel); }

}  // namespace pymodel::simt::tests
