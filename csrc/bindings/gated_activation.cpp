#include "ops/gated_activation/gated_activation.h"

#include "bindings/activation.h"
#include "bindings/bindings.h"

namespace pymodel {
namespace {

void forward(const std::string& activation, const Array& gate, const Array& up, const Array& y) {
  const Checker check("gated_activation");
  check.floating("gate", gate);
  check.shape_like("up", up, gate);
  check.dtype("up", up, {gate.dtype()});
  check.shape_like("out", y, gate);
  check.dtype("out", y, {gate.dtype()});
  check.same_device({&gate, &up, &y});
  const GatedActivationForward args{parse_activation("gated_activation", activation), gate.view(),
                                    up.view(), y.view()};
  PYMODEL_RUN(gated_activation_forward, gate.device(), args);
}

void backward(const std::string& activation, const Array& dy, const Array& gate, const Array& up,
              const Array& dgate, const Array& dup) {
  const Checker check("gated_activation backward");
  check.shape_like("gradient", dy, gate);
  check.dtype("gradient", dy, {gate.dtype()});
  const GatedActivationBackward args{parse_activation("gated_activation", activation),
                                     dy.view(),
                                     gate.view(),
                                     up.view(),
                                     dgate.view(),
                                     dup.view()};
  PYMODEL_RUN(gated_activation_backward, gate.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("gated_activation_forward", &forward);
  m.def("gated_activation_backward", &backward);
}

}  // namespace pymodel
