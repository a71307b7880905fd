#include "ops/adamw/adamw.h"

#include <cmath>
#include <tuple>

#include "bindings/tensor_list.h"

namespace pymodel {
namespace {

// (lr, beta1, beta2, eps, weight_decay, step counted from 1, decoupled)
using Settings = std::tuple<double, double, double, double, double, int64_t, bool>;

// Bias corrections are worked out in double: 1 - 0.999^t has few digits in float32.
AdamWFactors factors_of(const Settings& settings) {
  const auto [lr, beta1, beta2, eps, weight_decay, step, decoupled] = settings;
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(step));
  AdamWFactors factors;
  factors.decay = static_cast<float>(decoupled ? 1.0 - lr * weight_decay : 1.0);
  factors.penalty = static_cast<float>(decoupled ? 0.0 : weight_decay);
  factors.first_weight = static_cast<float>(1.0 - beta1);
  factors.second_decay = static_cast<float>(beta2);
  factors.second_weight = static_cast<float>(1.0 - beta2);
  factors.step_size = static_cast<float>(lr / correction1);
  factors.inverse_correction2 = static_cast<float>(1.0 / std::sqrt(correction2));
  factors.eps = static_cast<float>(eps);
  return factors;
}

void run_adamw(const ArrayList& parameters, const ArrayList& grads, const ArrayList& exp_avgs,
               const ArrayList& exp_avg_sqs, const ArrayList& masters,
               const std::vector<Settings>& settings, float grad_scale) {
  const Checker check("adamw");
  const size_t count = parameters.size();
  check_lengths(check, count,
                {{"grads", grads.size()},
                 {"exp_avgs", exp_avgs.size()},
                 {"exp_avg_sqs", exp_avg_sqs.size()},
                 {"masters", masters.size()},
                 {"settings", settings.size()}});
  if (count == 0) return;
  std::vector<AdamWTensor> tensors;
  TensorNumbering numbering;
  for (size_t i = 0; i < count; ++i) {
    check_parameter(check, parameters, grads, masters, i);
    const Array& parameter = *parameters[i];
    if (exp_avgs[i] == nullptr || exp_avg_sqs[i] == nullptr) {
      check.fail(list_item("exp_avgs and exp_avg_sqs", i) + " must be arrays, got None");
    }
    AdamWTensor tensor;
    tensor.parameter = parameter.view().data;
    tensor.grad = grads[i]->view().data;
    tensor.exp_avg = optimizer_state(check, "exp_avgs", exp_avgs, i, parameter);
    tensor.exp_avg_sq = optimizer_state(check, "exp_avg_sqs", exp_avg_sqs, i, parameter);
    tensor.master = optimizer_state(check, "masters", masters, i, parameter);
    tensor.count = parameter.numel();
    tensor.dtype = parameter.dtype();
    tensor.factors = factors_of(settings[i]);
    tensors.push_back(tensor);
    numbering.add(tensor.count);
    check.same_device({parameters[0], &parameter});
  }
  AdamW args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  args.grad_scale = grad_scale;
  PYMODEL_RUN(adamw, parameters[0]->device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) { m.def("adamw", &run_adamw); }

}  // namespace pymodel
