// Reductions over any dimensions of a tensor of any strides.
//
// Floating sums are compensated: beside each float32 total runs the total of what its additions
// rounded away, so that a sum of any length is exact to about one rounding (Ogita, Rump and Oishi,
// "Accurate sum and dot product", SIAM J. Sci. Comput. 26, 2005, algorithm 4.4). Down columns the
// CPU adds float32 sums of a few rows in float64 instead. The partition depends on shape and
// strides alone: the bits do not depend on the number of threads.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

enum class ReduceOp : uint8_t {
  sum,
  max,  // NaN wins
  min,  // NaN wins
  max_abs,
  squared_deviation,  // sum of (x - center)^2: the second pass of a variance
  any,                // of integers and bool only
  all,                // of integers and bool only
};

// out[k] = reduction of x[k, r] over r, divided by `divisor`. x is a floating type, and out that
// type or float32.
struct ReduceFloats {
  ReduceOp op = ReduceOp::sum;
  TensorView x;       // kept dimensions, then the reduced ones
  int kept = 0;       // number of kept dimensions
  TensorView out;     // kept dimensions
  TensorView center;  // kept dimensions, float32; squared_deviation only, else null
  float divisor = 1;
  void* workspace = nullptr;  // reduce_workspace(outputs, reduced elements) bytes
};

// The same for int32, int64, uint8 and bool; sums are int64, any and all bool, the others keep the
// type of x.
struct ReduceIntegers {
  ReduceOp op = ReduceOp::sum;
  TensorView x;
  int kept = 0;
  TensorView out;
  void* workspace = nullptr;  // as for ReduceFloats; the CPU needs none
};

// out[k] = the first r at which x[k, r] is largest (smallest); a NaN counts as beyond all numbers.
struct Argmax {
  bool smallest = false;
  TensorView x;    // kept dimensions, then one reduced
  TensorView out;  // kept dimensions, int64
};

// Few outputs of many elements each are shared out among threads in chunks with partial results.
constexpr int64_t kReduceChunks = 64;      // at most
constexpr int64_t kReduceChunkRows = 128;  // at least, along the reduced dimensions
constexpr int64_t kReduceOutputs =
    4096;  // more outputs than this are parallel enough by themselves

static inline int64_t reduce_workspace(int64_t outputs, int64_t reduced) {
  if (outputs > kReduceOutputs || reduced <= kReduceChunkRows) return 0;
  const int64_t chunks = (reduced + kReduceChunkRows - 1) / kReduceChunkRows;
  return (chunks < kReduceChunks ? chunks : kReduceChunks) * outputs * 8;
}

// On devices, chunks are work for blocks, of which this many are enough for any GPU.
constexpr int64_t kReduceBlocks = 1024;
constexpr int64_t kReduceStrip = 256;       // outputs of a block, at most, where there are chunks
constexpr int64_t kReduceChunkLeast = 128;  // elements of a chunk
constexpr int64_t kReduceLaunchLeast = int64_t{1} << 30;  // of a launch, where there are several

static inline int64_t reduce_device_workspace(int64_t outputs, int64_t reduced) {
  const int64_t launches = 1 + reduced / kReduceLaunchLeast, side = kReduceBlocks * kReduceStrip;
  if (reduced <= kReduceChunkLeast || (launches == 1 && outputs > side)) return 0;
  const int64_t most = (outputs > side ? outputs : side) * launches;
  const int64_t needed = (reduced + kReduceChunkLeast - 1) / kReduceChunkLeast * outputs;
  return 8 * (needed < most ? needed : most);
}

PYMODEL_DECLARE_KERNEL(reduce_floats, ReduceFloats)
PYMODEL_DECLARE_KERNEL(reduce_integers, ReduceIntegers)
PYMODEL_DECLARE_KERNEL(argmax, Argmax)

}  // namespace pymodel
