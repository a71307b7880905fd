// Looks at integers that lie on a device and that the host must not wait for.
#include "core/integers.h"
#include "cuda/launch.h"
#include "cuda/range.h"

namespace pymodel::PYMODEL_BACKEND {

// Values outside 0 to `most` are noted by their position. values: (count), any stride.
__global__ static void range_kernel(TensorView values, int64_t most, int64_t* slot) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= values.shape[0]) return;
  const int64_t value = integer_at(values, i);
  if (value < 0 || value > most) report_fault(slot, i);
}

void check_range(const TensorView& values, int64_t most, int64_t* slot, const Execution& on) {
  constexpr unsigned kThreads = 256;
  const Launch launch("check_range", on, {&values});
  launch(range_kernel, blocks_for(values.shape[0], kThreads), kThreads, 0, values, most, slot);
}

}  // namespace pymodel::PYMODEL_BACKEND
