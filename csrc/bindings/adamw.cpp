#include <tuple>

#include "bindings/tensor_list.h"
#include "ops/adamw/adamw_factors.h"

namespace pymodel {
namespace {

// (lr, beta1, beta2, eps, weight_decay, decoupled, step counted from 1)
using Settings = std::tuple<double, double, double, double, double, bool, int64_t>;

AdamWOptions options_of(const Settings& settings) {
  const auto [lr, beta1, beta2, eps, weight_decay, decoupled, step] = settings;
  return {lr, beta1, beta2, eps, weight_decay, decoupled};
}

// Counters and rates that lie on the device; neither list has entries where steps are counted here.
std::vector<AdamWSchedule> schedules_of(const Checker& check, const ArrayList& parameters,
                                        const std::vector<Settings>& settings,
                                        const ArrayList& steps, const ArrayList& rates) {
  std::vector<AdamWSchedule> schedules;
  if (steps.empty() && rates.empty()) return schedules;
  check_lengths(check, parameters.size(), {{"steps", steps.size()}, {"rates", rates.size()}});
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (steps[i] == nullptr) check.fail(list_item("steps", i) + " must be an array, got None");
    AdamWSchedule schedule;
    schedule.options = options_of(settings[i]);
    schedule.step = device_scalar<int64_t>(check, list_item("steps", i).c_str(), steps[i],
                                           DType::int64, *parameters[i]);
    schedule.lr = device_scalar<float>(check, list_item("rates", i).c_str(), rates[i],
                                       DType::float32, *parameters[i]);
    schedules.push_back(schedule);
  }
  return schedules;
}

void run_adamw(const ArrayList& parameters, const ArrayList& grads, const ArrayList& exp_avgs,
               const ArrayList& exp_avg_sqs, const ArrayList& masters,
               const std::vector<Settings>& settings, float grad_scale,
               const Array* device_grad_scale, const ArrayList& steps, const ArrayList& rates) {
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
    tensor.factors = adamw_factors(options_of(settings[i]), std::get<int64_t>(settings[i]));
    tensors.push_back(tensor);
    numbering.add(tensor.count);
    check.same_device({parameters[0], &parameter});
  }
  const Device device = parameters[0]->device();
  const std::vector<AdamWSchedule> schedules =
      schedules_of(check, parameters, settings, steps, rates);
  AdamW args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  args.schedules = schedules.empty() ? nullptr : schedules.data();
  args.grad_scale = grad_scale;
  args.device_grad_scale =
      device_scalar<float>(check, "grad_scale", device_grad_scale, DType::float32, *parameters[0]);
  const Workspace workspace(device, 0, schedules.empty() ? 0 : adamw_device_workspace(args.list));
  args.workspace = workspace.data();
  PYMODEL_RUN(adamw, device, args);
}

}  // namespace

PYMODEL_BINDINGS(m) { m.def("adamw", &run_adamw); }

}  // namespace pymodel
