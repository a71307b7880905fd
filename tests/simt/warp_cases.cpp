// Warp-wide functions, used rightly and wrongly.
#include "harness.h"

namespace pymodel::simt::tests {
namespace {

// ---------------------------------------------------------------------------------------------
// Right

// results (6, 32): one row for each shuffle, of 10 + lane.
__global__ void shuffle_kernel(int* results) {
  const int lane = threadIdx.x, value = 10 + lane;
  results[lane] = __shfl_sync(kAll, value, 5);
  results[32 + lane] = __shfl_sync(kAll, value, 3, 8);
  results[64 + lane] = __shfl_up_sync(kAll, value, 2, 16);
  results[96 + lane] = __shfl_down_sync(kAll, value, 3);
  results[128 + lane] = __shfl_xor_sync(kAll, value, 17);
  const long long wide = __shfl_xor_sync(kAll, static_cast<long long>(value) << 40, 1);
  results[160 + lane] = static_cast<int>(wide >> 40);
}

SIMT_CASE(shuffles) {
  DeviceArray<int> results(192);
  SIMT_TRY(launch(shuffle_kernel, 1, 32, 0, results.data()));
  const std::vector<int> got = results.host();
  for (int lane = 0; lane < 32; ++lane) {
    SIMT_EXPECT(got[lane] == 15);
    SIMT_EXPECT(got[32 + lane] == 10 + lane / 8 * 8 + 3);
    SIMT_EXPECT(got[64 + lane] == 10 + (lane % 16 < 2 ? lane : lane - 2));
    SIMT_EXPECT(got[96 + lane] == 10 + (lane > 28 ? lane : lane + 3));
    SIMT_EXPECT(got[128 + lane] == 10 + (lane ^ 17));
    SIMT_EXPECT(got[160 + lane] == 10 + (lane ^ 1));
  }
  return "ok";
}

// results (10, 64), for two warps.
__global__ void vote_kernel(int* results) {
  const int lane = threadIdx.x % 32, n = blockDim.x;
  int* out = results + threadIdx.x;
  out[0] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  out[n] = __any_sync(kAll, lane == 7) * 2 + __any_sync(kAll, 0);
  out[2 * n] = __all_sync(kAll, lane < 32) * 2 + __all_sync(kAll, lane > 0);
  out[3 * n] = __reduce_add_sync(kAll, lane);
  out[4 * n] = __reduce_min_sync(kAll, lane - 40);
  out[5 * n] = __reduce_max_sync(kAll, lane - 40);
  out[6 * n] = static_cast<int>(__reduce_and_sync(kAll, lane | 64u));
  out[7 * n] = static_cast<int>(__reduce_xor_sync(kAll, 1u << lane));
  out[8 * n] = static_cast<int>(__match_any_sync(kAll, lane / 4));
  // Halves of a warp may meet apart from each other, in branches of their own.
  if (lane < 16) {
    out[9 * n] = __reduce_add_sync(0x0000ffffu, lane);
  } else {
    __syncwarp(0xffff0000u);
    out[9 * n] = __reduce_max_sync(0xffff0000u, lane);
  }
}

SIMT_CASE(votes_and_reductions) {
  DeviceArray<int> results(640);
  SIMT_TRY(launch(vote_kernel, 1, 64, 0, results.data()));
  const std::vector<int> got = results.host();
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    SIMT_EXPECT(got[i] == 0x49249249);
    SIMT_EXPECT(got[64 + i] == 2 && got[128 + i] == 2);
    SIMT_EXPECT(got[192 + i] == 496 && got[256 + i] == -40 && got[320 + i] == -9);
    SIMT_EXPECT(got[384 + i] == 64 && got[448 + i] == -1);
    SIMT_EXPECT(got[512 + i] == static_cast<int>(0xfu << lane / 4 * 4));
    SIMT_EXPECT(got[576 + i] == (lane < 16 ? 120 : 31));
  }
  return "ok";
}

// ---------------------------------------------------------------------------------------------
// Wrong

__global__ void shuffle_outside_mask_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

__global__ void caller_outside_mask_kernel(int* out) {
  out[threadIdx.x] = static_cast<int>(__ballot_sync(0xffffu, 1));
}

__global__ void divergent_kernel(int* out) {
  out[threadIdx.x] = threadIdx.x % 2 ? __shfl_xor_sync(kAll, 1, 1) : __any_sync(kAll, 1);
}

__global__ void different_masks_kernel(int* out) {
  out[threadIdx.x] = __reduce_add_sync(threadIdx.x < 8 ? 0xffu : kAll, 1);
}

__global__ void early_return_kernel(int* out) {
  if (threadIdx.x == 9) return;
  out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);
}

__global__ void partial_warp_kernel(int* out) { out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1); }

// All lanes meet, though each at another place: neighbours read what is not yet written.
__global__ void missing_syncwarp_kernel(int* out) {
  float* shared = ptx::dynamic_shared<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = static_cast<int>(shared[threadIdx.x ^ 1]);
}

Outcome run_wrong(void (*kernel)(int*), unsigned threads) {
  DeviceArray<int> out(64);
  SIMT_TRY(launch(kernel, 1, threads, 256, out.data()));
  return "ok";
}

}  // namespace

SIMT_CASE(shuffle_outside_mask) { return run_wrong(shuffle_outside_mask_kernel, 32); }
SIMT_CASE(caller_outside_mask) { return run_wrong(caller_outside_mask_kernel, 32); }
SIMT_CASE(divergent_collective) { return run_wrong(divergent_kernel, 32); }
SIMT_CASE(different_masks) { return run_wrong(different_masks_kernel, 32); }
SIMT_CASE(ended_lane) { return run_wrong(early_return_kernel, 32); }
SIMT_CASE(partial_warp) { return run_wrong(partial_warp_kernel, 40); }

SIMT_CASE(missing_syncwarp) {
  DeviceArray<int> out(32);
  SIMT_TRY(launch(missing_syncwarp_kernel, 1, 32, 32 * sizeof(float), out.data()));
  const std::vector<int> got = out.host();
  for (int lane = 0; lane < 32; ++lane) SIMT_EXPECT(got[lane] == (lane ^ 1));
  return "ok";
}

}  // namespace pymodel::simt::tests
