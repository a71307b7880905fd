// CUDA choice between two tensors by a mask.
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/map.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Kernels: functions of map_kernel over the views out, condition, a, b

// T has the size of an element; nobody looks inside.
template <typename T>
struct WhereFunction {
  static constexpr int kWidth = kVectorLength<T>;

  template <int width>
  __device__ __forceinline__ void run(const Place<4>& place, const bool* repeats) const {
    uint8_t holds[width];
    T a[width], b[width];
    load_slot(place.at[1], repeats[1], place.count, holds);
    load_slot(place.at[2], repeats[2], place.count, a);
    load_slot(place.at[3], repeats[3], place.count, b);
#pragma unroll
    for (int i = 0; i < width; ++i) a[i] = holds[i] != 0 ? a[i] : b[i];
    store_slot(place.at[0], place.count, a);
  }
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void where(const WhereArguments& args, const Execution& on) {
  const Launch launch("where", on, {&args.condition, &args.a, &args.b, &args.out});
  const TensorView* const views[] = {&args.out, &args.condition, &args.a, &args.b};
  switch (item_size(args.out.dtype)) {
    case 1:
      return map_elements(launch, views, WhereFunction<uint8_t>{});
    case 2:
      return map_elements(launch, views, WhereFunction<uint16_t>{});
    case 4:
      return map_elements(launch, views, WhereFunction<uint32_t>{});
    default:
      return map_elements(launch, views, WhereFunction<uint64_t>{});
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
