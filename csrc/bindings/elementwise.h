// What the bindings of elementwise operations and reductions share: numbers, names, broadcasting.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "ops/elementwise/elementwise.h"

namespace pymodel {

// A Python number, and which of Python's kinds it is.
struct Number {
  Scalar value;
  enum Kind { boolean, integer, real } kind = real;
};

Number parse_number(const char* op, py::handle object);  // throws DTypeError for anything else

// The entry of `names` called `name`; throws ShapeError with the known ones.
template <typename Value, size_t count>
Value parse_name(const std::string& name, const std::pair<const char*, Value> (&names)[count]) {
  std::string known;
  for (const auto& [text, value] : names) {
    if (name == text) return value;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw ShapeError("operation '" + name + "' is unknown; expected one of " + known);
}

// NumPy's rule: aligned at the last dimension, extents of 1 stretch.
std::vector<int64_t> broadcast_shape(const char* op, const Array& a, const Array& b);

// `view` seen with the shape of `like`, which it must broadcast to.
TensorView broadcast_view(const TensorView& view, const TensorView& like);

// The type that two tensors are brought to; two different floating types are an error.
DType promoted(const char* op, DType a, DType b);

// The type that a tensor is brought to when it meets a number of this kind.
DType promoted(DType dtype, Number::Kind number);

// A contiguous array with the same elements, converted to `dtype`.
Array converted(const Array& array, DType dtype);

// Kernels may write over an input only at the element they read: any other overlap of `input` with
// `out` is resolved by a copy of `input`.
Array apart_from(const Array& input, const Array& out);

// Throws when `out` is read-only or shows one element of memory at several places (an expanded
// view).
void check_writable(const Checker& check, const Array& out);

}  // namespace pymodel
