#include "ops/cross_entropy/cross_entropy.h"

#include <omp.h>

#include "bindings/fault.h"

namespace pymodel {
namespace {

void check_incoming(const Array& dlosses, const Array& logits) {
  const Checker check("cross_entropy backward");
  check.shape("gradient", dlosses, {logits.size(0)});
  check.dtype("gradient", dlosses, {DType::float32});
}

// Given `dlosses` and `dlogits`, writes the gradient too. Returns the first row whose target is no
// class, or -1; of a device that is not waited for always -1, and the next call that waits raises.
int64_t forward(const Array& logits, const Array& targets, const Array& losses,
                const Array& statistics, const Array& scale, const Array& total,
                int64_t ignore_index, float label_smoothing, bool mean, const Array* dlosses,
                const Array* dlogits) {
  const Checker check("cross_entropy");
  check.ndim("logits", logits, 2);
  check.floating("logits", logits);
  check.unit_stride("logits", logits);
  const int64_t rows = logits.size(0);
  check.shape("targets", targets, {rows});
  check.dtype("targets", targets, {DType::int64, DType::int32, DType::uint8});
  check.shape("losses", losses, {rows});
  check.shape("statistics", statistics, {rows, 2});
  check.shape("scale", scale, {});
  check.shape("total", total, {});
  for (auto [name, array] : {std::pair{"losses", &losses}, std::pair{"statistics", &statistics},
                             std::pair{"scale", &scale}, std::pair{"total", &total}}) {
    check.dtype(name, *array, {DType::float32});
    check.contiguous(name, *array);
  }
  check.same_device({&logits, &targets, &losses, &statistics, &scale, &total});
  FaultReport invalid(logits.device(), Fault::cross_entropy_target);
  CrossEntropyForward args;
  args.logits = logits.view();
  args.targets = targets.view();
  args.losses = losses.view();
  args.statistics = statistics.view();
  args.scale = scale.view();
  args.total = total.view();
  args.ignore_index = ignore_index;
  args.label_smoothing = label_smoothing;
  args.mean = mean;
  args.invalid_row = invalid.slot();
  if (dlosses != nullptr && dlogits != nullptr) {
    check_incoming(*dlosses, logits);
    args.dlosses = dlosses->view();
    args.dlogits = dlogits->view();
  }
  const Workspace workspace(logits.device(), cross_entropy_workspace(args, omp_get_max_threads()),
                            0);
  args.workspace = workspace.data();
  PYMODEL_RUN(cross_entropy_forward, logits.device(), args);
  return invalid.position();
}

void backward(const Array& logits, const Array& targets, const Array& statistics,
              const Array& scale, const Array& dlosses, const Array& dlogits, int64_t ignore_index,
              float label_smoothing) {
  check_incoming(dlosses, logits);
  CrossEntropyBackward args;
  args.logits = logits.view();
  args.targets = targets.view();
  args.statistics = statistics.view();
  args.scale = scale.view();
  args.dlosses = dlosses.view();
  args.dlogits = dlogits.view();
  args.ignore_index = ignore_index;
  args.label_smoothing = label_smoothing;
  PYMODEL_RUN(cross_entropy_backward, logits.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("cross_entropy_forward", &forward, py::arg("logits"), py::arg("targets"), py::arg("losses"),
        py::arg("statistics"), py::arg("scale"), py::arg("total"), py::arg("ignore_index"),
        py::arg("label_smoothing"), py::arg("mean"), py::arg("dlosses") = nullptr,
        py::arg("dlogits") = nullptr);
  m.def("cross_entropy_backward", &backward);
}

}  // namespace pymodel
