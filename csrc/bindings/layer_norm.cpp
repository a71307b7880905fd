#include "ops/layer_norm/layer_norm.h"

#include "bindings/rows.h"

namespace pymodel {
namespace {

// (y and the sum with x's shape, the sum None without residual; then by rows what was normalised,
// the mean, None when not `centred`, and rstd)
py::tuple forward(const Array& x, const Array* residual, const Array* weight, const Array* bias,
                  float eps, bool centred) {
  const Checker check(centred ? "layer_norm" : "rms_norm");
  if (x.ndim() == 0) check.fail("x must have at least one dimension");
  check.floating("x", x);
  const int64_t columns = x.size(-1);
  if (columns == 0) check.fail("the normalised dimension must not be empty");
  if (residual != nullptr) {
    check.shape_like("residual", *residual, x);
    check.dtype("residual", *residual, {x.dtype()});
  }
  for (auto [name, array] : {std::pair{"weight", weight}, std::pair{"bias", bias}}) {
    if (array == nullptr) continue;
    check.shape(name, *array, {columns});
    check.dtype(name, *array, {x.dtype()});
    check.contiguous(name, *array);
  }
  check.same_device({&x, residual, weight, bias});
  const Array rows = rows_of(x);
  const Array y = Array::empty(rows.shape(), x.dtype(), x.device());
  const Array sum = residual == nullptr ? rows : Array::empty(rows.shape(), x.dtype(), x.device());
  const Array residual_rows = residual == nullptr ? rows : rows_of(*residual);
  const Array rstd = Array::empty({rows.size(0)}, DType::float32, x.device());
  const Array mean = centred ? Array::empty(rstd.shape(), DType::float32, x.device()) : rstd;
  LayerNormForward args;
  args.x = rows.view();
  if (residual != nullptr) {
    args.residual = residual_rows.view();
    args.sum = sum.view();
  }
  args.weight = view_or_null(weight);
  args.bias = view_or_null(bias);
  args.y = y.view();
  if (centred) args.mean = mean.view();
  args.rstd = rstd.view();
  args.eps = eps;
  PYMODEL_RUN(layer_norm_forward, x.device(), args);
  py::object shown_sum = residual == nullptr ? py::none() : py::cast(shaped_like(sum, x));
  py::object shown_mean = centred ? py::cast(mean) : py::none();
  return py::make_tuple(shaped_like(y, x), std::move(shown_sum), sum, std::move(shown_mean), rstd);
}

// Called by the op's own backward with what its forward saved: only what the user could have got
// wrong, the incoming gradients, is checked. Returns dx with the shape of dy.
Array backward(const Array& dy, const Array* dsum, const Array& input, const Array* weight,
               const Array* mean, const Array& rstd, const Array* dweight, const Array* dbias,
               bool accumulate) {
  const Checker check(mean == nullptr ? "rms_norm backward" : "layer_norm backward");
  const Array dy_rows = rows_of(dy);
  const Array dsum_rows = dsum == nullptr ? dy_rows : rows_of(*dsum);
  for (auto [name, rows] :
       {std::pair{"gradient", &dy_rows}, std::pair{"gradient of the sum", &dsum_rows}}) {
    check.shape_like(name, *rows, input);
    check.dtype(name, *rows, {input.dtype()});
  }
  const Array dx = Array::empty(input.shape(), input.dtype(), input.device());
  LayerNormBackward args;
  args.dy = dy_rows.view();
  if (dsum != nullptr) args.dsum = dsum_rows.view();
  args.input = input.view();
  args.weight = view_or_null(weight);
  args.mean = view_or_null(mean);
  args.rstd = rstd.view();
  args.dx = dx.view();
  args.dweight = view_or_null(dweight);
  args.dbias = view_or_null(dbias);
  args.accumulate = accumulate;
  const int64_t rows = input.size(0), columns = input.size(1);
  const Workspace workspace(dy.device(), layer_norm_workspace(rows, columns),
                            layer_norm_device_workspace(rows, columns));
  args.workspace = workspace.data();
  PYMODEL_RUN(layer_norm_backward, dy.device(), args);
  return shaped_like(dx, dy);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("layer_norm_forward", &forward);
  m.def("layer_norm_backward", &backward);
}

}  // namespace pymodel
