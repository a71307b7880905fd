#include "ops/softmax/softmax.h"

#include "bindings/bindings.h"

namespace pymodel {
namespace {

// (outer, classes, inner) with whichever of the last two the kernel runs along dense.
void check_slices(const Checker& check, const char* name, const Array& array) {
  check.ndim(name, array, 3);
  const int dense = array.size(2) == 1 ? 1 : 2;
  if (array.size(dense) > 1 && array.view().strides[dense] != 1) {
    check.fail(std::string(name) + " must be dense along its slices; call .contiguous()");
  }
}

void forward(const Array& x, const Array& y, bool logarithm) {
  const Checker check(logarithm ? "log_softmax" : "softmax");
  check.floating("x", x);
  check_slices(check, "x", x);
  check.shape_like("out", y, x);
  check.dtype("out", y, {x.dtype()});
  check_slices(check, "out", y);
  check.same_device({&x, &y});
  SoftmaxForward args;
  args.x = x.view();
  args.y = y.view();
  args.logarithm = logarithm;
  PYMODEL_RUN(softmax_forward, x.device(), args);
}

void backward(const Array& dy, const Array& y, const Array& dx, bool logarithm) {
  const Checker check(logarithm ? "log_softmax backward" : "softmax backward");
  check.shape_like("gradient", dy, y);
  check.dtype("gradient", dy, {y.dtype()});
  check_slices(check, "gradient", dy);
  SoftmaxBackward args;
  args.dy = dy.view();
  args.y = y.view();
  args.dx = dx.view();
  args.logarithm = logarithm;
  PYMODEL_RUN(softmax_backward, y.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("softmax_forward", &forward);
  m.def("softmax_backward", &backward);
}

}  // namespace pymodel
