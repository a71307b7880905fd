// Affine maps and their gradients: gemm on the rows of arrays of any number of dimensions, results
// allocated here. One call from Python where the parts would be ten.
#include "bindings/gemm.h"
#include "bindings/reduce.h"
#include "bindings/rows.h"

namespace pymodel {
namespace {

// A weight as the (in, out) factor of the product; it is stored so when `transposed`.
Array factor(const Array& weight, bool transposed) {
  return transposed ? weight : weight.permute({1, 0});
}

// (y (..., out), x as rows, what went into the activation or None)
py::tuple linear(const Array& x, const Array& weight, const Array* bias, const Array* residual,
                 const std::string& activation, bool transposed, bool save) {
  const Checker check("linear");
  if (x.ndim() == 0) check.fail("x must have at least one dimension");
  check.ndim("weight", weight, 2);
  const Array x_rows = rows_of(x);
  const Array w = factor(weight, transposed);
  const Array y = Array::empty({x_rows.size(0), w.size(1)}, x.dtype(), x.device());
  const Array result = shaped_like(y, x);
  if (residual != nullptr) check.shape_like("residual", *residual, result);
  const Array residual_rows = residual == nullptr ? y : rows_of(*residual);
  const Array pre = save ? Array::empty(y.shape(), x.dtype(), x.device()) : y;
  run_gemm(x_rows, w, y, bias, residual == nullptr ? nullptr : &residual_rows,
           save ? &pre : nullptr, 1.0f, 0.0f, activation, false, true);
  py::object saved = save ? py::cast(pre) : py::none();
  return py::make_tuple(result, x_rows, std::move(saved));
}

// dx = dz w^T times f'(pre) where there is one, with the leading dimensions of `like`: (..., in)
Array input_gradient(const Array& dz_rows, const Array& weight, bool transposed, const Array& like,
                     const std::string& activation, const Array* pre) {
  const Array back = factor(weight, !transposed);
  const Array dx = Array::empty({dz_rows.size(0), back.size(1)}, dz_rows.dtype(), like.device());
  run_gemm(dz_rows, back, dx, nullptr, nullptr, pre, 1.0f, 0.0f, activation, pre != nullptr, true);
  return shaped_like(dx, like);
}

// dweight = dz^T x, (out, in), or its transpose; added to `target` where one is given.
Array weight_gradient(const Array& dz_rows, const Array& x_rows, bool transposed,
                      const Array* target) {
  const Array& left = transposed ? x_rows : dz_rows;
  const Array& right = transposed ? dz_rows : x_rows;
  const Array dweight =
      target != nullptr ? *target
                        : Array::empty({left.size(1), right.size(1)}, left.dtype(), left.device());
  run_gemm(left.permute({1, 0}), right, dweight, nullptr, nullptr, nullptr, 1.0f,
           target != nullptr ? 1.0f : 0.0f, "none", false, false);
  return dweight;
}

// (dx, dweight, dbias), None where one is not wanted: dx without `like`.
py::tuple linear_backward(const Array& dz, const Array& x_rows, const Array& weight,
                          bool transposed, const Array* like, const std::string& activation,
                          const Array* pre, bool weight_wanted, const Array* weight_target,
                          bool bias_wanted) {
  const Array dz_rows = rows_of(dz);
  py::object dx = py::none(), dweight = py::none(), dbias = py::none();
  if (like != nullptr) {
    dx = py::cast(input_gradient(dz_rows, weight, transposed, *like, activation, pre));
  }
  if (weight_wanted)
    dweight = py::cast(weight_gradient(dz_rows, x_rows, transposed, weight_target));
  if (bias_wanted) dbias = py::cast(sum_of_rows(dz_rows));
  return py::make_tuple(std::move(dx), std::move(dweight), std::move(dbias));
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("linear", &linear);
  m.def("linear_backward", &linear_backward);
}

}  // namespace pymodel
