// CUDA attention, the dropout mask as dense booleans.
#include "core/philox.h"
#include "cuda/launch.h"
#include "ops/attention/attention.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kThreads = 256;

// ---------------------------------------------------------------------------------------------
// Kernel

// mask (rows, keys), one thread for each block of Philox: four neighbouring keys of a row.
__global__ void __launch_bounds__(kThreads)
    attention_dropout_mask_kernel(uint8_t* mask, int64_t rows, int64_t keys,
                                  const AttentionDropout dropout) {
  const int64_t blocks = (keys + 3) / 4;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= rows * blocks) return;
  const PhiloxBlock drawn = philox(dropout.seed, static_cast<uint64_t>(index), dropout.offset);
  const int64_t row = index / blocks, first = index % blocks * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (first + i < keys) mask[row * keys + first + i] = drawn.word[i] < dropout.threshold;
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void attention_dropout_mask(const AttentionDropoutMask& args, const Execution& on) {
  const Launch launch("attention_dropout_mask", on, {&args.mask});
  const int64_t rows = args.mask.shape[0] * args.mask.shape[1] * args.mask.shape[2];
  const int64_t keys = args.mask.shape[3];
  launch(attention_dropout_mask_kernel, dim3(blocks_for(rows * ((keys + 3) / 4), kThreads)),
         dim3(kThreads), 0, data_as<uint8_t>(args.mask), rows, keys, args.dropout);
}

}  // namespace pymodel::PYMODEL_BACKEND
