#include "bindings/elementwise.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "bindings/transfer.h"

namespace pymodel {

// ---------------------------------------------------------------------------------------------
// Shared helpers

Number parse_number(const char* op, py::handle object) {
  Number number;
  PyObject* const raw = object.ptr();
  if (PyFloat_Check(raw)) {
    number.value.real = PyFloat_AS_DOUBLE(raw);
    return number;
  }
  if (PyIndex_Check(raw)) {
    const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(raw));
    if (!index) throw py::error_already_set();
    number.value.integer = PyLong_AsLongLong(index.ptr());
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    number.value.real = static_cast<double>(number.value.integer);
    number.kind = PyBool_Check(raw) ? Number::boolean : Number::integer;
    return number;
  }
  number.value.real = PyFloat_AsDouble(raw);  // NumPy's scalars
  if (PyErr_Occurred() == nullptr) return number;
  PyErr_Clear();
  throw DTypeError(std::string(op) + ": expected a tensor or a number, got " +
                   Py_TYPE(raw)->tp_name);
}

std::vector<int64_t> broadcast_shape(const char* op, const Array& a, const Array& b) {
  const int ndim = std::max(a.ndim(), b.ndim());
  std::vector<int64_t> shape(static_cast<size_t>(ndim));
  for (int d = 1; d <= ndim; ++d) {
    const int64_t left = d <= a.ndim() ? a.size(-d) : 1, right = d <= b.ndim() ? b.size(-d) : 1;
    if (left != right && left != 1 && right != 1) {
      throw ShapeError(std::string(op) + ": shapes " + shape_string(a.shape()) + " and " +
                       shape_string(b.shape()) + " do not broadcast: extents " +
                       std::to_string(left) + " and " + std::to_string(right) + " at dimension -" +
                       std::to_string(d) + " differ and neither is 1");
    }
    shape[static_cast<size_t>(ndim - d)] = left == 1 ? right : left;
  }
  return shape;
}

TensorView broadcast_view(const TensorView& view, const TensorView& like) {
  TensorView result = like;
  result.data = view.data;
  result.dtype = view.dtype;
  const int extra = like.ndim - view.ndim;
  for (int d = 0; d < like.ndim; ++d) {
    const bool stretched = d < extra || view.shape[d - extra] != like.shape[d];
    result.strides[d] = stretched ? 0 : view.strides[d - extra];
  }
  return result;
}

// How far a type reaches among those without fractions.
static int integer_rank(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return 0;
    case DType::uint8:
      return 1;
    case DType::int32:
      return 2;
    default:
      return 3;
  }
}

DType promoted(const char* op, DType a, DType b) {
  if (a == b) return a;
  if (is_floating(a) && is_floating(b)) {
    throw DTypeError(std::string(op) + ": the tensors are " + dtype_name(a) + " and " +
                     dtype_name(b) + "; convert one of them, for example with .to(\"" +
                     dtype_name(a) + "\")");
  }
  if (is_floating(a)) return a;
  if (is_floating(b)) return b;
  return integer_rank(a) > integer_rank(b) ? a : b;
}

DType promoted(DType dtype, Number::Kind number) {
  if (is_floating(dtype) || number == Number::boolean) return dtype;
  if (number == Number::real) return DType::float32;
  return dtype == DType::boolean ? DType::int64 : dtype;
}

Array converted(const Array& array, DType dtype) {
  Array result = Array::empty(array.shape(), dtype, array.device());
  if (copied_as_bytes(array, result)) return result;
  const CopyArguments args{array.view(), result.view()};
  PYMODEL_RUN(copy, array.device(), args);
  return result;
}

Array apart_from(const Array& input, const Array& out) {
  if (input.storage() != out.storage()) return input;
  const bool same_layout = input.view().data == out.view().data && input.dtype() == out.dtype() &&
                           input.shape() == out.shape() && input.strides() == out.strides();
  return same_layout ? input : converted(input, input.dtype());
}

void check_writable(const Checker& check, const Array& out) {
  if (out.storage()->read_only()) {
    check.fail("cannot write to read-only memory of another library; use .clone() first");
  }
  for (int d = 0; d < out.ndim(); ++d) {
    if (out.size(d) < 2 || out.view().strides[d] != 0) continue;
    check.fail("cannot write to an expanded view, whose elements share memory; use .clone() first");
  }
}

namespace {

// ---------------------------------------------------------------------------------------------
// Fill and copy

void run_fill(const Array& out, const py::object& value) {
  const Checker check("fill");
  check_writable(check, out);
  const Number number = parse_number("fill", value);
  FillArguments args{out.view(), number.value};
  if (number.kind == Number::real && !is_floating(out.dtype())) {
    // Truncated, but whatever is not zero is true.
    const double real = number.value.real;
    if (!(std::abs(real) < 9.2e18))
      check.fail("an integer tensor cannot hold " + std::to_string(real));
    args.value.integer = out.dtype() == DType::boolean ? real != 0 : static_cast<int64_t>(real);
  }
  PYMODEL_RUN(fill, out.device(), args);
}

// The arrays may lie on different devices.
void run_copy(const Array& source, const Array& out) {
  const Checker check("copy");
  check_writable(check, out);
  if (broadcast_shape("copy", source, out) != out.shape()) {
    check.fail("a tensor of shape " + shape_string(source.shape()) + " does not fit into shape " +
               shape_string(out.shape()));
  }
  if (source.device() != out.device()) {
    copy_between_devices(source, out, false);
    return;
  }
  if (copied_as_bytes(source, out)) return;
  const Array input = apart_from(source, out);
  const CopyArguments args{broadcast_view(input.view(), out.view()), out.view()};
  PYMODEL_RUN(copy, out.device(), args);
}

// ---------------------------------------------------------------------------------------------
// Binary operations

constexpr std::pair<const char*, BinaryOp> kBinaryNames[] = {
    {"add", BinaryOp::add}, {"sub", BinaryOp::sub},         {"mul", BinaryOp::mul},
    {"div", BinaryOp::div}, {"maximum", BinaryOp::maximum}, {"minimum", BinaryOp::minimum},
    {"pow", BinaryOp::pow}, {"eq", BinaryOp::eq},           {"ne", BinaryOp::ne},
    {"lt", BinaryOp::lt},   {"le", BinaryOp::le},           {"gt", BinaryOp::gt},
    {"ge", BinaryOp::ge},
};

// One side of a binary operation: an array, or a number where `array` is null.
struct Operand {
  const Array* array = nullptr;
  Number number;
};

Operand parse_operand(const char* op, const py::object& object) {
  Operand operand;
  if (py::isinstance<Array>(object)) {
    operand.array = object.cast<const Array*>();
  } else {
    operand.number = parse_number(op, object);
  }
  return operand;
}

// The type that both sides are brought to.
DType common_dtype(const char* name, BinaryOp op, const Operand& a, const Operand& b) {
  DType dtype;
  if (a.array != nullptr && b.array != nullptr) {
    dtype = promoted(name, a.array->dtype(), b.array->dtype());
  } else if (a.array != nullptr) {
    dtype = promoted(a.array->dtype(), b.number.kind);
  } else {
    dtype = promoted(b.array->dtype(), a.number.kind);
  }
  if (is_floating(dtype)) return dtype;
  if (op == BinaryOp::div || op == BinaryOp::pow) return DType::float32;
  if (dtype == DType::boolean && (op == BinaryOp::add || op == BinaryOp::sub)) {
    throw DTypeError(std::string(name) +
                     ": not defined for bool tensors; use &, | and ^, or "
                     "convert with .to(\"int64\")");
  }
  return dtype;
}

Array run_binary(const std::string& name, const py::object& left, const py::object& right,
                 const Array* given_out) {
  const BinaryOp op = parse_name(name, kBinaryNames);
  const Checker check(name.c_str());
  const Operand a = parse_operand(name.c_str(), left), b = parse_operand(name.c_str(), right);
  if (a.array == nullptr && b.array == nullptr) check.fail("one of the operands must be a tensor");
  check.same_device({a.array, b.array, given_out});
  const DType dtype = common_dtype(name.c_str(), op, a, b);
  const DType out_dtype = is_comparison(op) ? DType::boolean : dtype;
  const bool both = a.array != nullptr && b.array != nullptr;
  const Array& one = a.array != nullptr ? *a.array : *b.array;
  const auto shape = both ? broadcast_shape(name.c_str(), *a.array, *b.array) : one.shape();
  const Array out =
      given_out != nullptr ? *given_out : Array::empty(shape, out_dtype, one.device());
  if (given_out != nullptr) {
    if (out.shape() != shape) {
      check.fail("out must have shape " + shape_string(shape) + ", got " +
                 shape_string(out.shape()));
    }
    check.dtype("out", out, {out_dtype});
    check_writable(check, out);
  }
  BinaryArguments args;
  args.op = op;
  args.out = out.view();
  args.scalar = (a.array == nullptr ? a : b).number.value;
  Array inputs[2];
  for (const auto& [side, view, slot] : {std::tuple{&a, &args.a, 0}, std::tuple{&b, &args.b, 1}}) {
    if (side->array == nullptr) continue;
    const bool fits = side->array->dtype() == dtype;
    inputs[slot] = fits ? apart_from(*side->array, out) : converted(*side->array, dtype);
    *view = broadcast_view(inputs[slot].view(), out.view());
  }
  PYMODEL_RUN(binary, out.device(), args);
  return out;
}

// ---------------------------------------------------------------------------------------------
// Unary operations and choice

constexpr std::pair<const char*, UnaryOp> kUnaryNames[] = {
    {"neg", UnaryOp::neg},   {"abs", UnaryOp::abs},
    {"exp", UnaryOp::exp},   {"log", UnaryOp::log},
    {"sqrt", UnaryOp::sqrt}, {"rsqrt", UnaryOp::rsqrt},
    {"sin", UnaryOp::sin},   {"reciprocal", UnaryOp::reciprocal},
    {"cos", UnaryOp::cos},   {"square", UnaryOp::square},
    {"erf", UnaryOp::erf},   {"clamp", UnaryOp::clamp},
};

Array run_unary(const std::string& name, const Array& x, const Array* given_out, float low,
                float high) {
  const Checker check(name.c_str());
  check.floating("x", x);
  const Array out =
      given_out != nullptr ? *given_out : Array::empty(x.shape(), x.dtype(), x.device());
  if (given_out != nullptr) {
    check.shape_like("out", out, x);
    check.dtype("out", out, {x.dtype()});
    check.same_device({&x, &out});
    check_writable(check, out);
  }
  const Array input = apart_from(x, out);
  const UnaryArguments args{parse_name(name, kUnaryNames), input.view(), out.view(), low, high};
  PYMODEL_RUN(unary, x.device(), args);
  return out;
}

Array run_unary_backward(const std::string& name, const Array& dy, const Array& x, float low,
                         float high) {
  const Checker check(name.c_str());
  check.shape_like("gradient", dy, x);
  check.dtype("gradient", dy, {x.dtype()});
  const Array dx = Array::empty(x.shape(), x.dtype(), x.device());
  const UnaryBackward args{
      parse_name(name, kUnaryNames), dy.view(), x.view(), dx.view(), low, high};
  PYMODEL_RUN(unary_backward, x.device(), args);
  return dx;
}

// The array, or an array without dimensions that holds the number; of the given type either way.
Array as_array(const Operand& operand, DType dtype, Device device) {
  if (operand.array != nullptr) {
    return operand.array->dtype() == dtype ? *operand.array : converted(*operand.array, dtype);
  }
  Array result = Array::empty({}, dtype, device);
  const FillArguments args{result.view(), operand.number.value};
  PYMODEL_RUN(fill, device, args);
  return result;
}

Array run_where(const Array& condition, const py::object& left, const py::object& right) {
  const Checker check("where");
  check.dtype("condition", condition, {DType::boolean});
  const Operand a = parse_operand("where", left), b = parse_operand("where", right);
  check.same_device({&condition, a.array, b.array});
  DType dtype = DType::float32;
  if (a.array != nullptr && b.array != nullptr) {
    dtype = promoted("where", a.array->dtype(), b.array->dtype());
  } else if (a.array != nullptr) {
    dtype = promoted(a.array->dtype(), b.number.kind);
  } else if (b.array != nullptr) {
    dtype = promoted(b.array->dtype(), a.number.kind);
  }
  const Array on_true = as_array(a, dtype, condition.device());
  const Array on_false = as_array(b, dtype, condition.device());
  // The extents of the choices first, then those of the condition.
  const auto choices = broadcast_shape("where", on_true, on_false);
  const Array shaped = Array::empty({}, dtype, condition.device()).expand(choices);
  const Array out =
      Array::empty(broadcast_shape("where", condition, shaped), dtype, condition.device());
  WhereArguments args;
  args.condition = broadcast_view(condition.view(), out.view());
  args.a = broadcast_view(on_true.view(), out.view());
  args.b = broadcast_view(on_false.view(), out.view());
  args.out = out.view();
  PYMODEL_RUN(where, condition.device(), args);
  return out;
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("fill", &run_fill);
  m.def("copy", &run_copy);
  // Tensors or numbers on either side; returns `out`, made here when it is not given.
  m.def("binary", &run_binary, py::arg("op"), py::arg("a"), py::arg("b"), py::arg("out") = nullptr);
  // low and high are the bounds of "clamp".
  m.def("unary", &run_unary, py::arg("op"), py::arg("x"), py::arg("out") = nullptr,
        py::arg("low") = 0.0f, py::arg("high") = 0.0f);
  m.def("unary_backward", &run_unary_backward, py::arg("op"), py::arg("dy"), py::arg("x"),
        py::arg("low") = 0.0f, py::arg("high") = 0.0f);
  m.def("where", &run_where);
}

}  // namespace pymodel
