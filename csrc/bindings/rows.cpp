#include "bindings/rows.h"

namespace pymodel {

// Whether the leading dimensions step through memory as one.
static bool leading_are_even(const TensorView& view) {
  bool first = true;
  int64_t expected = 0;
  for (int dim = view.ndim - 2; dim >= 0; --dim) {
    if (view.shape[dim] == 1) continue;
    if (!first && view.strides[dim] != expected) return false;
    expected = view.strides[dim] * view.shape[dim];
    first = false;
  }
  return true;
}

Array rows_of(const Array& array) {
  const TensorView& view = array.view();
  if (view.ndim == 0) throw ShapeError("rows: the array must have at least one dimension");
  const int64_t columns = array.size(-1);
  const bool dense = columns <= 1 || view.strides[view.ndim - 1] == 1;
  int64_t count = 1;
  for (int dim = 0; dim + 1 < view.ndim; ++dim) count *= view.shape[dim];
  if (dense && (array.numel() == 0 || leading_are_even(view))) {
    return array.ndim() == 2 ? array : array.reshape({count, columns});
  }
  return converted(array, array.dtype()).reshape({count, columns});
}

Array shaped_like(const Array& rows, const Array& like) {
  std::vector<int64_t> shape = like.shape();
  shape.back() = rows.size(1);
  return rows.reshape(std::move(shape));
}

PYMODEL_BINDINGS(m) { m.def("rows", &rows_of); }

}  // namespace pymodel
