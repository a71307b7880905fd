// The Python class _core.Array: views, NumPy, and the state of the machine.
#include "core/array.h"

#include <omp.h>
#include <pybind11/numpy.h>

#include "bindings/transfer.h"
#include "core/matrix_unit.h"

namespace pymodel {
namespace {

py::tuple to_tuple(const int64_t* values, int count) {
  py::tuple tuple(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) tuple[static_cast<size_t>(i)] = py::int_(values[i]);
  return tuple;
}

// Two-byte floats have no NumPy type of their own here: they travel as uint16, which the Python
// side reinterprets (ml_dtypes).
py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return py::dtype::of<float>();
    case DType::int32:
      return py::dtype::of<int32_t>();
    case DType::int64:
      return py::dtype::of<int64_t>();
    case DType::uint8:
      return py::dtype::of<uint8_t>();
    case DType::boolean:
      return py::dtype::of<bool>();
    case DType::float16:
    case DType::bfloat16:
      break;
  }
  return py::dtype::of<uint16_t>();
}

// The names of devices as Python strings that are made once.
py::str interned_name(Device device) {
  static py::str* names[3][kMaxDevices];  // never destroyed: the interpreter may be gone by then
  py::str*& name = names[static_cast<int>(device.type)][device.index];
  if (name == nullptr) name = new py::str(device_name(device));
  return *name;
}

// The same of dtypes.
py::str interned_name(DType dtype) {
  static py::str* names[static_cast<int>(DType::boolean) + 1];
  py::str*& name = names[static_cast<int>(dtype)];
  if (name == nullptr) name = new py::str(dtype_name(dtype));
  return *name;
}

// Shows the memory itself, so there is none to show of a device.
py::array to_numpy(const py::object& self) {
  const Array& array = self.cast<const Array&>();
  if (!array.device().is_cpu()) {
    throw DeviceError("numpy: the array lies on " + device_name(array.device()) +
                      "; move it to the CPU first");
  }
  std::vector<py::ssize_t> shape, strides;
  const auto bytes = static_cast<int64_t>(item_size(array.dtype()));
  for (int i = 0; i < array.ndim(); ++i) {
    shape.push_back(array.view().shape[i]);
    strides.push_back(array.view().strides[i] * bytes);
  }
  py::array result(numpy_dtype(array.dtype()), shape, strides, array.view().data, self);
  if (array.storage()->read_only()) result.attr("setflags")(py::arg("write") = false);
  return result;
}

// A view of the NumPy array's memory, which stays alive as long as the view does.
Array from_numpy(const py::array& source, const std::string& dtype_text) {
  const DType dtype = parse_dtype(dtype_text);
  const auto bytes = static_cast<int64_t>(item_size(dtype));
  if (source.itemsize() != bytes)
    throw DTypeError("from_numpy: the item size is not that of " + dtype_text);
  std::vector<int64_t> shape, strides;
  for (py::ssize_t i = 0; i < source.ndim(); ++i) {
    if (source.strides(i) % bytes != 0)
      throw ShapeError("from_numpy: unaligned strides; copy the array");
    shape.push_back(source.shape(i));
    strides.push_back(source.strides(i) / bytes);
  }
  auto* owner = new py::object(source);
  auto on_release = [owner] {
    py::gil_scoped_acquire locked;
    delete owner;
  };
  auto storage = std::make_shared<Storage>(const_cast<void*>(source.data()),
                                           static_cast<size_t>(source.nbytes()), Device{},
                                           on_release, !source.writeable());
  return Array(std::move(storage), 0, dtype, shape, strides);
}

// An incoming gradient, and whether it is owned: whether nothing else shows its memory.
struct Incoming {
  const Array* array;
  bool owned;
};

std::vector<Incoming> incoming_gradients(const py::list& slots) {
  std::vector<Incoming> incoming;
  for (const py::handle slot : slots) {
    if (slot.is_none()) continue;  // an output that nobody used
    const auto pair = py::reinterpret_borrow<py::tuple>(slot);
    incoming.push_back({pair[0].cast<const Array*>(), pair[1].cast<bool>()});
  }
  return incoming;
}

// Which results of a backward function share their memory with no other gradient, so that they may
// be added to in place: fresh dense arrays, and those that alone show all of an incoming gradient
// which was itself owned. Other objects among the results count as shared. `slots` holds the pairs
// (incoming gradient, owned), or None.
py::list sole_heirs(const py::tuple& results, const py::list& slots) {
  const std::vector<Incoming> incoming = incoming_gradients(slots);
  std::vector<const Array*> arrays;
  for (const py::handle result : results) {
    arrays.push_back(py::isinstance<Array>(result) ? result.cast<const Array*>() : nullptr);
  }
  py::list alone(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    bool mine = arrays[i] != nullptr && arrays[i]->contiguous();
    for (size_t k = 0; mine && k < incoming.size(); ++k) {
      const auto& storage = incoming[k].array->storage();
      if (arrays[i]->storage() != storage) continue;
      mine = incoming[k].owned && arrays[i]->numel() == incoming[k].array->numel();
      for (size_t j = 0; mine && j < arrays.size(); ++j) {
        mine = j == i || arrays[j] == nullptr || arrays[j]->storage() != storage;
      }
    }
    alone[i] = py::bool_(mine);
  }
  return alone;
}

}  // namespace

PYMODEL_BINDINGS(m) {
  py::class_<Array>(m, "Array")
      .def_property_readonly("shape",
                             [](const Array& a) { return to_tuple(a.view().shape, a.ndim()); })
      .def_property_readonly("strides",
                             [](const Array& a) { return to_tuple(a.view().strides, a.ndim()); })
      .def_property_readonly("ndim", &Array::ndim)
      .def_property_readonly("numel", &Array::numel)
      .def_property_readonly("dtype", [](const Array& a) { return interned_name(a.dtype()); })
      .def_property_readonly("device", [](const Array& a) { return interned_name(a.device()); })
      .def_property_readonly("contiguous", &Array::contiguous)
      .def_property_readonly("read_only", [](const Array& a) { return a.storage()->read_only(); })
      .def_property_readonly(
          "data_ptr", [](const Array& a) { return reinterpret_cast<uintptr_t>(a.view().data); })
      .def_property_readonly(
          "nbytes",
          [](const Array& a) { return a.numel() * static_cast<int64_t>(item_size(a.dtype())); })
      .def("shares_storage",
           [](const Array& a, const Array& b) { return a.storage() == b.storage(); })
      .def("reshape", &Array::reshape)
      .def("permute", &Array::permute)
      .def("slice", &Array::slice)
      .def("select", &Array::select)
      .def("expand", &Array::expand)
      .def("unsqueeze", &Array::unsqueeze)
      .def_property_readonly("pinned",
                             [](const Array& a) { return a.storage()->pinned_by() != nullptr; })
      // A contiguous array of the same elements on another device, or another one on this.
      .def("moved", [](const Array& a, const std::string& device,
                       bool non_blocking) { return moved(a, parse_device(device), non_blocking); })
      .def("pin", &pinned)
      .def("empty_like",
           [](const Array& a) { return Array::empty(a.shape(), a.dtype(), a.device()); })
      .def("numpy", &to_numpy);

  m.def("empty",
        [](const std::vector<int64_t>& shape, const std::string& dtype, const std::string& device) {
          return Array::empty(shape, parse_dtype(dtype), parse_device(device));
        });
  m.def("from_numpy", &from_numpy);
  m.def("sole_heirs", &sole_heirs);

  m.def("isa", [] { return active_isa_name(); });
  m.def("detected_isa", [] { return detected_isa_name(); });
  m.def("num_threads", [] { return omp_get_max_threads(); });
  m.def("set_num_threads", [](int count) {
    if (count < 1)
      throw ShapeError("set_num_threads: the count must be at least 1, got " +
                       std::to_string(count));
    omp_set_num_threads(count);
  });
  m.def("build_options", [] { return PYMODEL_BUILD_OPTIONS; });
}

}  // namespace pymodel
