// CUDA positions of extremes: a team of threads runs along the elements of each output.
#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "ops/elementwise/slots.cuh"
#include "ops/elementwise/values.cuh"
#include "ops/reduce/reduce.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kTeamThreads = 256;    // of a block whose teams are parts of warps
constexpr int kBlockThreads = 1024;  // of a block that is one team
// Elements of an output, for one warp, where outputs are few or enough to fill a GPU with warps.
constexpr int64_t kWarpElements = 512, kWarpElementsOfMany = 8192, kManyOutputs = 512;

// ---------------------------------------------------------------------------------------------
// Device helpers

template <typename Wide>
struct Found {
  Wide value;
  int64_t position;  // -1 while there is none
};

// Whether `value` comes before `best`; NaN comes before everything.
template <typename Wide>
__device__ __forceinline__ bool precedes(Wide value, Wide best, bool smallest) {
  if (value != value) return best == best;
  return smallest ? value < best : value > best;
}

// The one that comes first; of equal ones that at the smaller position.
template <typename Wide>
__device__ __forceinline__ Found<Wide> earlier(Found<Wide> a, Found<Wide> b, bool smallest) {
  if (a.position < 0 || b.position < 0) return a.position < 0 ? b : a;
  if (precedes(a.value, b.value, smallest)) return a;
  if (precedes(b.value, a.value, smallest)) return b;
  return a.position < b.position ? a : b;
}

// ---------------------------------------------------------------------------------------------
// Kernels

// One slot of `kept` (x, out) for each output; `elements` of x, `stride` bytes apart, belong to it.
// A team is a power of two up to 32 threads, or the whole block.
template <typename Wide>
__global__ void __launch_bounds__(kBlockThreads)
    argmax_kernel(const Slots<2> kept, DType dtype, int64_t elements, int64_t stride, int team,
                  bool smallest) {
  __shared__ Found<Wide> warps[kBlockThreads / kWarp];
  const int lane = static_cast<int>(threadIdx.x) % team;
  const uint32_t output = blockIdx.x * (blockDim.x / team) + threadIdx.x / team;
  const bool valid = output < kept.count;
  const Place<2> place = locate<1>(kept, valid ? output : 0);
  Found<Wide> best = {Wide{}, -1};
  for (int64_t i = lane; i < elements; i += team) {
    Wide value[1];
    load_any(dtype, place.at[0] + i * stride, false, 1, value);
    if (best.position < 0 || precedes(value[0], best.value, smallest)) best = {value[0], i};
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    if (step >= team) continue;
    const Found<Wide> other = {__shfl_xor_sync(kFullMask, best.value, step),
                               __shfl_xor_sync(kFullMask, best.position, step)};
    best = earlier(best, other, smallest);
  }
  if (team > kWarp) {
    if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = best;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x / kWarp; ++w) best = earlier(best, warps[w], smallest);
  }
  if (valid && lane == 0) *reinterpret_cast<int64_t*>(place.at[1]) = best.position;
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void argmax(const Argmax& args, const Execution& on) {
  const Launch launch(args.smallest ? "argmin" : "argmax", on, {&args.x, &args.out});
  const int last = args.x.ndim - 1;
  const TensorView kept = dims_of(args.x, 0, last);
  const int64_t elements = args.x.shape[last];
  const int64_t stride = args.x.strides[last] * static_cast<int64_t>(item_size(args.x.dtype));
  int team = 1;
  while (team < kWarp && team < elements) team *= 2;
  if (elements > (numel(kept) < kManyOutputs ? kWarpElements : kWarpElementsOfMany)) {
    team = kBlockThreads;
  }
  const int threads = team > kWarp ? kBlockThreads : kTeamThreads;
  const auto kernel = is_floating(args.x.dtype) ? argmax_kernel<float> : argmax_kernel<int64_t>;
  for_each_part(make_loop<2>({&kept, &args.out}), 1, [&](const StridedLoop<2>& part) {
    const Slots<2> slots = slots_of(part, 1);
    launch(kernel, blocks_for(slots.count, threads / team), threads, 0, slots, args.x.dtype,
           elements, stride, team, args.smallest);
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
