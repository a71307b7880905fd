#include "ops/layer_norm/layer_norm.h"

#include "bindings/bindings.h"

namespace pymodel {
namespace {

void forward(const Array& x, const Array* residual, const Array* sum, const Array* weight,
             const Array* bias, const Array& y, const Array* mean, const Array& rstd, float eps) {
  const Checker check(mean == nullptr ? "rms_norm" : "layer_norm");
  check.ndim("x", x, 2);
  check.floating("x", x);
  check.unit_stride("x", x);
  const int64_t rows = x.size(0), columns = x.size(1);
  if (columns == 0) check.fail("the normalised dimension must not be empty");
  for (auto [name, array] : {std::pair{"residual", residual}, std::pair{"sum", sum}}) {
    if (array == nullptr) continue;
    check.shape_like(name, *array, x);
    check.dtype(name, *array, {x.dtype()});
    check.unit_stride(name, *array);
  }
  for (auto [name, array] : {std::pair{"weight", weight}, std::pair{"bias", bias}}) {
    if (array == nullptr) continue;
    check.shape(name, *array, {columns});
    check.dtype(name, *array, {x.dtype()});
    check.contiguous(name, *array);
  }
  check.shape_like("out", y, x);
  check.dtype("out", y, {x.dtype()});
  check.unit_stride("out", y);
  for (auto [name, array] : {std::pair{"mean", mean}, std::pair{"rstd", &rstd}}) {
    if (array == nullptr) continue;
    check.shape(name, *array, {rows});
    check.dtype(name, *array, {DType::float32});
    check.contiguous(name, *array);
  }
  if ((residual == nullptr) != (sum == nullptr)) check.fail("residual and sum go together");
  check.same_device({&x, residual, sum, weight, bias, &y, mean, &rstd});
  LayerNormForward args;
  args.x = x.view();
  args.residual = view_or_null(residual);
  args.sum = view_or_null(sum);
  args.weight = view_or_null(weight);
  args.bias = view_or_null(bias);
  args.y = y.view();
  args.mean = view_or_null(mean);
  args.rstd = rstd.view();
  args.eps = eps;
  PYMODEL_RUN(layer_norm_forward, x.device(), args);
}

// Called by the op's own backward with what its forward saved: only what the user could have got
// wrong, the incoming gradients, is checked.
void backward(const Array& dy, const Array* dsum, const Array& input, const Array* weight,
              const Array* mean, const Array& rstd, const Array& dx, const Array* dweight,
              const Array* dbias, bool accumulate) {
  const Checker check(mean == nullptr ? "rms_norm backward" : "layer_norm backward");
  check.shape_like("gradient", dy, input);
  check.dtype("gradient", dy, {input.dtype()});
  check.unit_stride("gradient", dy);
  if (dsum != nullptr) {
    check.shape_like("gradient of the sum", *dsum, input);
    check.dtype("gradient of the sum", *dsum, {input.dtype()});
    check.unit_stride("gradient of the sum", *dsum);
  }
  LayerNormBackward args;
  args.dy = dy.view();
  args.dsum = view_or_null(dsum);
  args.input = input.view();
  args.weight = view_or_null(weight);
  args.mean = view_or_null(mean);
  args.rstd = rstd.view();
  args.dx = dx.view();
  args.dweight = view_or_null(dweight);
  args.dbias = view_or_null(dbias);
  args.accumulate = accumulate;
  const Workspace workspace(dy.device(), layer_norm_workspace(dy.size(0), dy.size(1)),
                            layer_norm_device_workspace(dy.size(0), dy.size(1)));
  args.workspace = workspace.data();
  PYMODEL_RUN(layer_norm_backward, dy.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("layer_norm_forward", &forward);
  m.def("layer_norm_backward", &backward);
}

}  // namespace pymodel
