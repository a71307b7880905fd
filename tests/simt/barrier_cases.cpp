// Barriers of a block, used rightly and wrongly.
#include "harness.h"

namespace pymodel::simt::tests {
namespace {

// ---------------------------------------------------------------------------------------------
// Right

// Threads 0 to 69 of 96 leave between two barriers; the others still meet. results (4, 96).
__global__ void votes_kernel(int* results) {
  const int i = threadIdx.x, n = blockDim.x;
  results[i] = __syncthreads_count(i % 3 == 0);
  results[n + i] = __syncthreads_and(i < n) * 2 + __syncthreads_and(i > 0);
  if (i < 70) return;
  results[2 * n + i] = __syncthreads_or(i == 80) * 2 + __syncthreads_or(0);
  results[3 * n + i] = __syncthreads_count(1);
}

SIMT_CASE(barrier_votes) {
  DeviceArray<int> results(4 * 96);
  SIMT_TRY(launch(votes_kernel, 1, 96, 0, results.data()));
  const std::vector<int> got = results.host();
  for (int i = 0; i < 96; ++i) {
    SIMT_EXPECT(got[i] == 32);
    SIMT_EXPECT(got[96 + i] == 2);
    SIMT_EXPECT(got[192 + i] == (i < 70 ? -1 : 2));
    SIMT_EXPECT(got[288 + i] == (i < 70 ? -1 : 26));
  }
  return "ok";
}

// Warp 0 fills one of two halves of shared memory while warp 1 sums the other: a named barrier for
// "full" and one for "empty" of each half, of which one side only arrives.
__global__ void ping_pong_kernel(const int* values, int rounds, int* sums) {
  int* shared = ptx::dynamic_shared<int>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int round = 0; round < rounds; ++round) {
    const int half = round % 2, full = 1 + half, empty = 3 + half;
    if (warp == 0) {
      if (round >= 2) ptx::named_barrier_sync(empty, 64);
      shared[32 * half + lane] = values[32 * round + lane];
      ptx::named_barrier_arrive(full, 64);
    } else {
      ptx::named_barrier_sync(full, 64);
      int sum = 0;
      for (int i = 0; i < 32; ++i) sum += shared[32 * half + i];
      sums[32 * round + lane] = sum;
      if (round + 2 < rounds) ptx::named_barrier_arrive(empty, 64);
    }
  }
}

// The same through a ring of mbarriers, with three warps that consume.
__global__ void ring_kernel(const int* values, int rounds, int* sums) {
  constexpr int stages = 3, consumers = 96;
  auto* full = ptx::dynamic_shared<uint64_t>();
  uint64_t* empty = full + stages;
  int* tiles = reinterpret_cast<int*>(empty + stages);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < stages; ++stage) {
      ptx::mbarrier_init(full + stage, 32);
      ptx::mbarrier_init(empty + stage, consumers);
    }
  }
  __syncthreads();
  for (int round = 0; round < rounds; ++round) {
    const int stage = round % stages, turn = round / stages;
    if (warp == 0) {
      // The first turn waits for the phase before the first, which counts as over.
      ptx::mbarrier_wait(empty + stage, (turn + 1) & 1);
      tiles[32 * stage + lane] = values[32 * round + lane];
      ptx::mbarrier_arrive(full + stage);
    } else {
      while (!ptx::mbarrier_test(full + stage, turn & 1)) {
      }
      int sum = 0;
      for (int i = 0; i < 32; ++i) sum += tiles[32 * stage + i];
      if (warp == 1 + round % 3) sums[32 * round + lane] = sum;
      ptx::mbarrier_arrive(empty + stage);
    }
  }
}

Outcome check_sums(void (*kernel)(const int*, int, int*), unsigned threads) {
  constexpr int rounds = 17;
  std::vector<int> values(32 * rounds);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i * i % 1009);
  const DeviceArray<int> on_device(values);
  DeviceArray<int> sums(values.size());
  SIMT_TRY(launch(kernel, 2, threads, 512, on_device.data(), rounds, sums.data()));
  const std::vector<int> got = sums.host();
  for (int round = 0; round < rounds; ++round) {
    int sum = 0;
    for (int i = 0; i < 32; ++i) sum += values[32 * round + i];
    for (int lane = 0; lane < 32; ++lane) SIMT_EXPECT(got[32 * round + lane] == sum);
  }
  return "ok";
}

SIMT_CASE(named_barriers) { return check_sums(ping_pong_kernel, 64); }
SIMT_CASE(mbarrier_ring) { return check_sums(ring_kernel, 128); }

// One warp polls a flag that another sets.
__global__ void polling_kernel(int* flag) {
  if (threadIdx.x < 32) {
    while (atomicCAS(flag, 1, 1) != 1) {
    }
  } else {
    *flag = 1;
  }
}

SIMT_CASE(polling) {
  DeviceArray<int> flag(std::vector<int>{0});
  SIMT_TRY(launch(polling_kernel, 1, 64, 0, flag.data()));
  return "ok";
}

// ---------------------------------------------------------------------------------------------
// Wrong

__global__ void deadlock_kernel(int* out) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else if (threadIdx.x < 64) {
    out[threadIdx.x] = __shfl_sync(kAll, 1, 0);
  } else {
    ptx::named_barrier_sync(2, 96);
  }
}

__global__ void unequal_counts_kernel(int*) {
  ptx::named_barrier_sync(1, threadIdx.x < 32 ? 64 : 96);
}

__global__ void odd_count_kernel(int*) { ptx::named_barrier_sync(1, 40); }

__global__ void raw_mbarrier_kernel(int*) { ptx::mbarrier_arrive(ptx::dynamic_shared<uint64_t>()); }

__global__ void mbarrier_deadlock_kernel(int*) {
  auto* barrier = ptx::dynamic_shared<uint64_t>();
  if (threadIdx.x == 0) ptx::mbarrier_init(barrier, 64);
  __syncthreads();
  if (threadIdx.x < 32) ptx::mbarrier_arrive(barrier);
  ptx::mbarrier_wait(barrier, 0);
}

__global__ void hopeless_polling_kernel(int* flag) {
  while (atomicCAS(flag, 1, 1) != 1) {
  }
}

Outcome run_wrong(void (*kernel)(int*), unsigned threads) {
  DeviceArray<int> out(std::vector<int>(256, 0));
  SIMT_TRY(launch(kernel, 1, threads, 64, out.data()));
  return "ok";
}

}  // namespace

SIMT_CASE(deadlock) { return run_wrong(deadlock_kernel, 96); }
SIMT_CASE(unequal_counts) { return run_wrong(unequal_counts_kernel, 96); }
SIMT_CASE(odd_count) { return run_wrong(odd_count_kernel, 64); }
SIMT_CASE(raw_mbarrier) { return run_wrong(raw_mbarrier_kernel, 32); }
SIMT_CASE(mbarrier_deadlock) { return run_wrong(mbarrier_deadlock_kernel, 64); }
SIMT_CASE(hopeless_polling) { return run_wrong(hopeless_polling_kernel, 2); }

}  // namespace pymodel::simt::tests
