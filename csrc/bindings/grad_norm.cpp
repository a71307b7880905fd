#include "ops/grad_norm/grad_norm.h"

#include "bindings/tensor_list.h"

namespace pymodel {
namespace {

std::vector<GradTensor> checked(const char* op, const std::vector<Array>& grads,
                                TensorNumbering& numbering) {
  const Checker check(op);
  std::vector<GradTensor> tensors;
  for (size_t i = 0; i < grads.size(); ++i) {
    const std::string name = list_item("grads", i);
    check.floating(name.c_str(), grads[i]);
    check.contiguous(name.c_str(), grads[i]);
    check.same_device({&grads[0], &grads[i]});
    tensors.push_back({grads[i].view().data, grads[i].numel(), grads[i].dtype()});
    numbering.add(grads[i].numel());
  }
  return tensors;
}

// A Python float, or on devices a float32 array there, which nobody has waited for.
py::object run_norm(const std::vector<Array>& grads) {
  TensorNumbering numbering;
  const std::vector<GradTensor> tensors = checked("grad_norm", grads, numbering);
  double norm = 0.0;
  if (grads.empty()) return py::float_(norm);
  const Device device = grads[0].device();
  GradNorm args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  const Workspace workspace(device, grad_norm_workspace(args.list),
                            grad_norm_device_workspace(args.list));
  args.partials = static_cast<double*>(workspace.data());
  if (device.is_cpu()) {
    args.norm = &norm;
    PYMODEL_RUN(grad_norm, device, args);
    return py::float_(norm);
  }
  Array result = Array::empty({}, DType::float32, device);
  args.device_norm = data_as<float>(result.view());
  PYMODEL_RUN(grad_norm, device, args);
  return py::cast(std::move(result));
}

void run_scale(const std::vector<Array>& grads, float scale, const Array* device_scale) {
  TensorNumbering numbering;
  const std::vector<GradTensor> tensors = checked("grad_scale", grads, numbering);
  if (grads.empty()) return;
  GradScale args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  args.scale = scale;
  args.device_scale =
      device_scalar<float>(Checker("grad_scale"), "scale", device_scale, DType::float32, grads[0]);
  PYMODEL_RUN(grad_scale, grads[0].device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("grad_norm", &run_norm);
  m.def("grad_scale", &run_scale);
}

}  // namespace pymodel
