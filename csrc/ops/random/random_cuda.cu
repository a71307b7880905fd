// CUDA random fills: a thread draws four neighbours at a time, which share a block of Philox.
#include "core/philox.h"
#include "cuda/launch.h"
#include "cuda/numeric.cuh"
#include "ops/random/random.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 4;           // elements that share a block of Philox
constexpr int64_t kMostBlocks = 8;  // of a multiprocessor, which 2048 threads fill

// ---------------------------------------------------------------------------------------------
// Device helpers

// Multiples of 2^-24 in [0, 1): all that float32 holds at an even spacing.
__device__ __forceinline__ float unit_interval(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

struct Uniform {
  __device__ __forceinline__ static void draw(const PhiloxBlock& block, float (&draws)[kGroup]) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) draws[i] = unit_interval(block.word[i]);
  }
};

struct Normal {
  __device__ __forceinline__ static void draw(const PhiloxBlock& block, float (&draws)[kGroup]) {
#pragma unroll
    for (int i = 0; i < kGroup; i += 2) {
      // (word + 1/2) 2^-32 in two halves, each exact, as on the CPU.
      const uint32_t word = block.word[i];
      const float high = static_cast<float>(word >> 16), low = static_cast<float>(word & 0xffffu);
      const float positive = high * 0x1p-16f + (low + 0.5f) * 0x1p-32f;
      const float radius = sqrtf(logf(positive) * -2.0f);
      const float half_turns = unit_interval(block.word[i + 1]) * 2.0f;
      draws[i] = radius * cospif(half_turns);
      draws[i + 1] = radius * sinpif(half_turns);
    }
  }
};

// ---------------------------------------------------------------------------------------------
// Kernels

// out (count). `packed`: it is aligned to four elements.
template <typename T, typename Distribution>
__global__ void __launch_bounds__(kThreads)
    random_kernel(T* out, int64_t count, bool packed, uint64_t seed, uint64_t offset, float scale,
                  float location) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t group = int64_t{blockIdx.x} * kThreads + threadIdx.x; group * kGroup < count;
       group += step) {
    float draws[kGroup];
    Distribution::draw(philox(seed, static_cast<uint64_t>(group), offset), draws);
    Packed<T, kGroup> values;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      values.element[i] = from_float<T>(fmaf(draws[i], scale, location));
    }
    const int64_t first = group * kGroup;
    if (packed && first + kGroup <= count) {
      store_packed(out + first, values);
    } else {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        if (first + i < count) out[first + i] = values.element[i];
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename Distribution>
void fill_random(const char* op, const RandomFill& args, const Execution& on) {
  const Launch launch(op, on, {&args.out});
  const int64_t count = args.out.shape[0];
  const int64_t blocks = blocks_for(count, kThreads * kGroup);
  const int64_t most = kMostBlocks * launch.multiprocessors();
  dispatch_floating(args.out.dtype, [&](auto type) {
    using T = decltype(type);
    const bool packed = reinterpret_cast<uintptr_t>(args.out.data) % (kGroup * sizeof(T)) == 0;
    launch(random_kernel<T, Distribution>, static_cast<unsigned>(blocks < most ? blocks : most),
           kThreads, 0, data_as<T>(args.out), count, packed, args.seed, args.offset, args.scale,
           args.location);
  });
}

}  // namespace

void random_uniform(const RandomFill& args, const Execution& on) {
  fill_random<Uniform>("random_uniform", args, on);
}

void random_normal(const RandomFill& args, const Execution& on) {
  fill_random<Normal>("random_normal", args, on);
}

}  // namespace pymodel::PYMODEL_BACKEND
