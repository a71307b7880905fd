// Runs a function over the elements of several strided tensors: one kernel for all elementwise
// operations.
//
// The function is a struct with a constant `kWidth`, the most elements that one thread takes at a
// time, and
//
//   template <int width> __device__ void run(const Place<views>& place, const bool* repeats) const
//
// which reads the slot of `width` neighbours at place.at[1], place.at[2], ... and writes the one at
// place.at[0]. It is instantiated for kWidth, where memory lets 16-byte vectors through, and for 1.
#pragma once

#include "cuda/launch.h"
#include "ops/elementwise/slots.cuh"
#include "ops/elementwise/values.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr int kMapThreads = 256;
// Eight blocks of 256 threads fill a multiprocessor; each then walks on over the rest in steps of
// the grid.
constexpr int64_t kMapBlocks = 8;

template <int width, int views, typename Function>
__global__ void __launch_bounds__(kMapThreads)
    map_kernel(const Slots<views> slots, const Function function) {
  const uint32_t step = gridDim.x * kMapThreads;
  for (uint32_t slot = blockIdx.x * kMapThreads + threadIdx.x; slot < slots.count; slot += step) {
    function.template run<width>(locate<width>(slots, slot), slots.repeats);
  }
}

template <int width, int views, typename Function>
void launch_map(const Launch& launch, const StridedLoop<views>& loop, const Function& function) {
  const int64_t most = kMapBlocks * launch.multiprocessors();
  for_each_part(loop, width, [&](const StridedLoop<views>& part) {
    const Slots<views> slots = slots_of(part, width);
    const int64_t blocks = blocks_for(slots.count, kMapThreads);
    launch(map_kernel<width, views, Function>, static_cast<unsigned>(blocks < most ? blocks : most),
           kMapThreads, 0, slots, function);
  });
}

// All views of `list` have one shape; the first is written.
template <int views, typename Function>
void map_elements(const Launch& launch, const TensorView* const (&list)[views],
                  const Function& function) {
  const StridedLoop<views> loop = make_loop<views>(list);
  int64_t items[views];
  for (int v = 0; v < views; ++v) items[v] = static_cast<int64_t>(item_size(list[v]->dtype));
  if (takes_vectors(loop, items, Function::kWidth)) {
    launch_map<Function::kWidth>(launch, loop, function);
  } else {
    launch_map<1>(launch, loop, function);
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
