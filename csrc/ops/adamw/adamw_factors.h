// From the options of AdamW and the number of the step to the factors of that step.
#pragma once

#include <cmath>

#include "core/host_device.h"
#include "ops/adamw/adamw.h"

namespace pymodel {

// In double: 1 - 0.999^t has few digits in float32. Steps are counted from 1.
static inline PYMODEL_HOST_DEVICE AdamWFactors adamw_factors(const AdamWOptions& options,
                                                             int64_t step) {
  const double correction1 = 1.0 - pow(options.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - pow(options.beta2, static_cast<double>(step));
  const bool decoupled = options.decoupled;
  AdamWFactors factors;
  factors.decay = static_cast<float>(decoupled ? 1.0 - options.lr * options.weight_decay : 1.0);
  factors.penalty = static_cast<float>(decoupled ? 0.0 : options.weight_decay);
  factors.first_weight = static_cast<float>(1.0 - options.beta1);
  factors.second_decay = static_cast<float>(options.beta2);
  factors.second_weight = static_cast<float>(1.0 - options.beta2);
  factors.step_size = static_cast<float>(options.lr / correction1);
  factors.inverse_correction2 = static_cast<float>(1.0 / sqrt(correction2));
  factors.eps = static_cast<float>(options.eps);
  return factors;
}

}  // namespace pymodel
