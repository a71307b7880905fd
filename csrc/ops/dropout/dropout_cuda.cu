// CUDA dropout: a thread takes four neighbours at a time, which share a block of Philox.
#include "core/philox.h"
#include "cuda/launch.h"
#include "cuda/numeric.cuh"
#include "ops/dropout/dropout.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 4;           // elements that share a block of Philox
constexpr int64_t kMostBlocks = 8;  // of a multiprocessor, which 2048 threads fill

// ---------------------------------------------------------------------------------------------
// Device helpers

__device__ __forceinline__ float drop(uint32_t word, uint32_t threshold, float scale, float x) {
  // Selected, not multiplied by zero: a dropped infinity is zero too.
  return word < threshold ? x * scale : 0.0f;
}

// ---------------------------------------------------------------------------------------------
// Kernels

// x, residual, y (count), residual may be null. `packed`: all three are aligned to four elements.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, const T* residual, T* y, int64_t count, bool packed, uint64_t seed,
                   uint64_t offset, uint32_t threshold, float scale) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t group = int64_t{blockIdx.x} * kThreads + threadIdx.x; group * kGroup < count;
       group += step) {
    const PhiloxBlock block = philox(seed, static_cast<uint64_t>(group), offset);
    const int64_t first = group * kGroup;
    if (packed && first + kGroup <= count) {
      const Packed<T, kGroup> in = load_packed<kGroup>(x + first);
      Packed<T, kGroup> add{}, out;
      if (residual != nullptr) add = load_packed<kGroup>(residual + first);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        float value = drop(block.word[i], threshold, scale, to_float(in.element[i]));
        if (residual != nullptr) value += to_float(add.element[i]);
        out.element[i] = from_float<T>(value);
      }
      store_packed(y + first, out);
    } else {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        if (first + i >= count) break;
        float value = drop(block.word[i], threshold, scale, to_float(x[first + i]));
        if (residual != nullptr) value += to_float(residual[first + i]);
        y[first + i] = from_float<T>(value);
      }
    }
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void dropout(const Dropout& args, const Execution& on) {
  const Launch launch("dropout", on, {&args.x, &args.residual, &args.y});
  const int64_t count = args.x.shape[0];
  const double keep = 1.0 - args.p;
  const float scale = keep > 0.0 ? static_cast<float>(1.0 / keep) : 0.0f;
  const int64_t blocks = blocks_for(count, kThreads * kGroup);
  const int64_t most = kMostBlocks * launch.multiprocessors();
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    bool packed = true;
    for (const TensorView* view : {&args.x, &args.residual, &args.y}) {
      packed = packed && reinterpret_cast<uintptr_t>(view->data) % (kGroup * sizeof(T)) == 0;
    }
    launch(dropout_kernel<T>, static_cast<unsigned>(blocks < most ? blocks : most), kThreads, 0,
           data_as<T>(args.x), data_as<T>(args.residual), data_as<T>(args.y), count, packed,
           args.seed, args.offset, keep_threshold(keep), scale);
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
