#include "bindings/reduce.h"

#include <cmath>
#include <optional>

#include "bindings/elementwise.h"
#include "bindings/transfer.h"
#include "ops/reduce/reduce.h"

namespace pymodel {
namespace {

// "mean" is a sum with a divisor.
constexpr std::pair<const char*, ReduceOp> kReduceNames[] = {
    {"sum", ReduceOp::sum},         {"mean", ReduceOp::sum},
    {"max", ReduceOp::max},         {"min", ReduceOp::min},
    {"max_abs", ReduceOp::max_abs}, {"squared_deviation", ReduceOp::squared_deviation},
    {"any", ReduceOp::any},         {"all", ReduceOp::all},
};

using Dims = std::vector<int64_t>;
using MaybeDims = std::optional<Dims>;  // nothing: all dimensions

// Which dimensions are reduced; all of them where none are given.
std::vector<bool> reduced_dims(const Checker& check, const Array& x, const MaybeDims& dims) {
  std::vector<bool> reduced(static_cast<size_t>(x.ndim()), !dims);
  if (!dims) return reduced;
  for (const int64_t dim : *dims) {
    const int64_t d = dim < 0 ? dim + x.ndim() : dim;
    if (d < 0 || d >= x.ndim()) {
      check.fail("dimension " + std::to_string(dim) + " is out of range for a tensor of shape " +
                 shape_string(x.shape()));
    }
    if (reduced[static_cast<size_t>(d)]) {
      check.fail("dimension " + std::to_string(dim) + " is named twice");
    }
    reduced[static_cast<size_t>(d)] = true;
  }
  return reduced;
}

// A reduction as kernels see it: kept dimensions before the reduced ones.
struct Split {
  Array x;
  int kept = 0;
  Dims kept_shape;
  Dims shown_shape;  // what the caller gets: with extents of 1 when keepdim is set
  int64_t outputs = 1, elements = 1;
};

Split split(const Array& x, const std::vector<bool>& reduced, bool keepdim) {
  Split result;
  Dims order, last;
  for (int d = 0; d < x.ndim(); ++d) {
    if (reduced[static_cast<size_t>(d)]) {
      last.push_back(d);
      result.elements *= x.size(d);
      if (keepdim) result.shown_shape.push_back(1);
    } else {
      order.push_back(d);
      result.outputs *= x.size(d);
      result.kept_shape.push_back(x.size(d));
      result.shown_shape.push_back(x.size(d));
    }
  }
  result.kept = static_cast<int>(order.size());
  order.insert(order.end(), last.begin(), last.end());
  result.x = result.kept == 0 ? x : x.permute(order);
  return result;
}

DType result_dtype(ReduceOp op, DType dtype) {
  if (op == ReduceOp::any || op == ReduceOp::all) return DType::boolean;
  return op == ReduceOp::sum && !is_floating(dtype) ? DType::int64 : dtype;
}

// Throws where the operation is not defined for the type, or has no value for no elements.
void check_defined(const Checker& check, ReduceOp op, const Array& x, const Split& parts,
                   bool mean) {
  const bool logical = op == ReduceOp::any || op == ReduceOp::all;
  if (logical) check.dtype("x", x, {DType::boolean, DType::uint8, DType::int32, DType::int64});
  const bool any_type = op == ReduceOp::sum || op == ReduceOp::max || op == ReduceOp::min;
  if (mean || !(any_type || logical)) check.floating("x", x);
  if ((op == ReduceOp::max || op == ReduceOp::min) && parts.elements == 0 && parts.outputs != 0) {
    check.fail("x of shape " + shape_string(x.shape()) + " has no elements to choose from");
  }
}

// The caller's output, seen with the kept dimensions only.
Array checked_out(const Checker& check, const Split& parts, const Array& out, DType dtype,
                  bool float32_too) {
  if (out.numel() != parts.outputs) {
    check.fail("out must have shape " + shape_string(parts.shown_shape) + ", got " +
               shape_string(out.shape()));
  }
  if (float32_too && out.dtype() == DType::float32) return out.reshape(parts.kept_shape);
  check.dtype("out", out, {dtype});
  return out.reshape(parts.kept_shape);
}

int64_t workspace_bytes(const Array& x, const Split& parts) {
  const bool on_cpu = x.device().is_cpu();
  if (on_cpu && !is_floating(x.dtype())) return 0;
  return on_cpu ? reduce_workspace(parts.outputs, parts.elements)
                : reduce_device_workspace(parts.outputs, parts.elements);
}

Array run_reduce(const std::string& name, const Array& x, const Array* given_out,
                 const MaybeDims& dims, bool keepdim, float divisor, const Array* center) {
  const Checker check(name.c_str());
  const ReduceOp op = parse_name(name, kReduceNames);
  const bool mean = name == "mean";
  const Split parts = split(x, reduced_dims(check, x, dims), keepdim);
  check.same_device({&x, given_out, center});
  check_defined(check, op, x, parts, mean);
  const bool floats = is_floating(x.dtype());
  const DType dtype = result_dtype(op, x.dtype());
  const Array out = given_out != nullptr ? checked_out(check, parts, *given_out, dtype, floats)
                                         : Array::empty(parts.kept_shape, dtype, x.device());
  const Workspace workspace(workspace_bytes(x, parts), current_execution(x.device()));
  if (floats) {
    ReduceFloats args;
    args.op = op;
    args.x = parts.x.view();
    args.kept = parts.kept;
    args.out = out.view();
    if (center != nullptr) {
      check.dtype("center", *center, {DType::float32});
      args.center = center->reshape(parts.kept_shape).view();
    }
    args.divisor = mean ? static_cast<float>(parts.elements) : divisor;
    args.workspace = workspace.data();
    PYMODEL_RUN(reduce_floats, x.device(), args);
  } else {
    const ReduceIntegers args{op, parts.x.view(), parts.kept, out.view(), workspace.data()};
    PYMODEL_RUN(reduce_integers, x.device(), args);
  }
  if (given_out != nullptr) return *given_out;
  return keepdim ? out.reshape(parts.shown_shape) : out;
}

// Sums the dimensions along which `shape` was broadcast to that of x: the gradient of broadcasting.
Array sum_to_shape(const Array& x, const Dims& shape) {
  if (x.shape() == shape) return x;
  Dims dims;
  const int extra = x.ndim() - static_cast<int>(shape.size());
  for (int d = 0; d < x.ndim(); ++d) {
    if (d < extra || (shape[static_cast<size_t>(d - extra)] == 1 && x.size(d) != 1))
      dims.push_back(d);
  }
  return run_reduce("sum", x, nullptr, dims, false, 1.0f, nullptr).reshape(shape);
}

Array run_argmax(const Array& x, int64_t dim, bool smallest, bool keepdim) {
  const Checker check(smallest ? "argmin" : "argmax");
  const Dims dims{dim};
  const Split parts = split(x, reduced_dims(check, x, dims), keepdim);
  if (parts.elements == 0 && parts.outputs != 0) {
    check.fail("x of shape " + shape_string(x.shape()) + " has no elements to choose from");
  }
  const Array out = Array::empty(parts.kept_shape, DType::int64, x.device());
  const Argmax args{smallest, parts.x.view(), out.view()};
  PYMODEL_RUN(argmax, x.device(), args);
  return out.reshape(parts.shown_shape);
}

bool all_finite(const Array& x) {
  if (!is_floating(x.dtype())) return true;
  const Array largest = Array::empty({}, DType::float32, x.device());
  run_reduce("max_abs", x, &largest, std::nullopt, false, 1.0f, nullptr);
  return std::isfinite(*data_as<float>(moved(largest, Device{}, false).view()));
}

}  // namespace

Array sum_of_rows(const Array& rows) {
  return run_reduce("sum", rows, nullptr, Dims{0}, false, 1.0f, nullptr);
}

PYMODEL_BINDINGS(m) {
  // dims: None for all. Returns `out`, made here when it is not given.
  m.def("reduce", &run_reduce, py::arg("op"), py::arg("x"), py::arg("out") = nullptr,
        py::arg("dims") = py::none(), py::arg("keepdim") = false, py::arg("divisor") = 1.0f,
        py::arg("center") = nullptr);
  m.def("sum_to_shape", &sum_to_shape);
  m.def("argmax", &run_argmax);
  m.def("all_finite", &all_finite);
}

}  // namespace pymodel
