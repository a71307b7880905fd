// Random fills: element i takes word i of Philox under (seed, offset), whatever the tiling.
//
//   uniform    low + (high - low) * u,  u = (word >> 8) * 2^-24 in [0, 1)
//   normal     mean + deviation * z,    z by Box and Muller from word pairs (0, 1) and (2, 3) of
//              a block: r = sqrt(-2 ln u1), z_even = r cos(2 pi u2), z_odd = r sin(2 pi u2), where
//              u1 = (word + 1/2) * 2^-32, so |z| reaches 6.8, and u2 = (word >> 8) * 2^-24
//
// out (count) is dense, of any floating dtype; values are made in float32 and rounded once.
//
// Source: Box and Muller, "A note on the generation of random normal deviates", Annals of
// Mathematical Statistics 29, 1958.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct RandomFill {
  TensorView out;         // (count)
  float location = 0.0f;  // low, or the mean
  float scale = 1.0f;     // high - low, or the standard deviation
  uint64_t seed = 0;
  uint64_t offset = 0;
};

PYMODEL_DECLARE_KERNEL(random_uniform, RandomFill)
PYMODEL_DECLARE_KERNEL(random_normal, RandomFill)

}  // namespace pymodel
