#include "ops/sgd/sgd.h"

#include <tuple>

#include "bindings/tensor_list.h"

namespace pymodel {
namespace {

// (lr, momentum, gradient_weight, weight_decay, nesterov)
using Settings = std::tuple<float, float, float, float, bool>;

void run_sgd(const ArrayList& parameters, const ArrayList& grads, const ArrayList& momentum_buffers,
             const ArrayList& masters, const std::vector<Settings>& settings, float grad_scale,
             const Array* device_grad_scale, const ArrayList& rates) {
  const Checker check("sgd");
  const size_t count = parameters.size();
  check_lengths(check, count,
                {{"grads", grads.size()},
                 {"momentum_buffers", momentum_buffers.size()},
                 {"masters", masters.size()},
                 {"settings", settings.size()},
                 {"rates", rates.size()}});
  if (count == 0) return;
  std::vector<SgdTensor> tensors;
  TensorNumbering numbering;
  for (size_t i = 0; i < count; ++i) {
    check_parameter(check, parameters, grads, masters, i);
    const Array& parameter = *parameters[i];
    const auto [lr, momentum, gradient_weight, weight_decay, nesterov] = settings[i];
    SgdTensor tensor;
    tensor.parameter = parameter.view().data;
    tensor.grad = grads[i]->view().data;
    tensor.momentum = optimizer_state(check, "momentum_buffers", momentum_buffers, i, parameter);
    tensor.master = optimizer_state(check, "masters", masters, i, parameter);
    tensor.count = parameter.numel();
    tensor.dtype = parameter.dtype();
    tensor.factors = {lr, momentum, gradient_weight, weight_decay, nesterov};
    tensor.lr = device_scalar<float>(check, list_item("rates", i).c_str(), rates[i], DType::float32,
                                     parameter);
    tensors.push_back(tensor);
    numbering.add(tensor.count);
    check.same_device({parameters[0], &parameter});
  }
  Sgd args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  args.grad_scale = grad_scale;
  args.device_grad_scale =
      device_scalar<float>(check, "grad_scale", device_grad_scale, DType::float32, *parameters[0]);
  PYMODEL_RUN(sgd, parameters[0]->device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) { m.def("sgd", &run_sgd); }

}  // namespace pymodel
