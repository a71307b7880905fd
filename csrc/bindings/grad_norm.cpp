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

double run_norm(const std::vector<Array>& grads) {
  TensorNumbering numbering;
  const std::vector<GradTensor> tensors = checked("grad_norm", grads, numbering);
  double norm = 0.0;
  if (grads.empty()) return norm;
  GradNorm args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  args.norm = &norm;
  const Workspace workspace(list_chunks(args.list) * static_cast<int64_t>(sizeof(double)),
                            current_execution(grads[0].device()));
  args.partials = static_cast<double*>(workspace.data());
  PYMODEL_RUN(grad_norm, grads[0].device(), args);
  return norm;
}

void run_scale(const std::vector<Array>& grads, float scale) {
  TensorNumbering numbering;
  const std::vector<GradTensor> tensors = checked("grad_scale", grads, numbering);
  if (grads.empty()) return;
  GradScale args;
  args.list = numbering.list();
  args.tensors = tensors.data();
  args.scale = scale;
  PYMODEL_RUN(grad_scale, grads[0].device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("grad_norm", &run_norm);
  m.def("grad_scale", &run_scale);
}

}  // namespace pymodel
