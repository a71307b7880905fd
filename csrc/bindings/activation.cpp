#include "ops/activation/activation.h"

#include "bindings/activation.h"
#include "bindings/elementwise.h"

namespace pymodel {
namespace {

void forward(const std::string& name, const Array& x, const Array& out) {
  const Checker check(name.c_str());
  check.floating("x", x);
  check.shape_like("out", out, x);
  check.dtype("out", out, {x.dtype()});
  check.same_device({&x, &out});
  const ActivationForward args{parse_activation("activation", name), x.view(), out.view()};
  PYMODEL_RUN(activation_forward, x.device(), args);
}

void backward(const std::string& name, const Array& x, const Array& dy, const Array& dx) {
  const Checker check(name.c_str());
  check.shape_like("gradient", dy, x);
  check.dtype("gradient", dy, {x.dtype()});
  const ActivationBackward args{parse_activation("activation", name), dy.view(), x.view(),
                                dx.view()};
  PYMODEL_RUN(activation_backward, x.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("activation", &forward);
  m.def("activation_backward", &backward);
}

}  // namespace pymodel
