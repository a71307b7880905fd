// Looks at integers that lie on a device and that the host must not wait for.
#pragma once

#include "core/execution.h"
#include "core/tensor_view.h"

namespace pymodel::PYMODEL_BACKEND {

// Notes in `slot` (cuda/launch.h) the first position of `values`, (count) integers of any stride,
// that holds none of 0 to `most`.
void check_range(const TensorView& values, int64_t most, int64_t* slot, const Execution& on);

}  // namespace pymodel::PYMODEL_BACKEND
