#include "bindings/bindings.h"

#include <cstdlib>
#include <vector>

#include "bindings/fault.h"
#include "core/allocator.h"

namespace pymodel {

static std::vector<BindFunction>& bind_functions() {
  static std::vector<BindFunction> functions;
  return functions;
}

Registrar::Registrar(BindFunction bind) { bind_functions().push_back(bind); }

// ---------------------------------------------------------------------------------------------
// Checks

void Checker::fail(const std::string& message) const {
  throw ShapeError(std::string(op_) + ": " + message);
}

void Checker::shape(const char* argument, const Array& array,
                    std::initializer_list<int64_t> wanted) const {
  bool fits = array.ndim() == static_cast<int>(wanted.size());
  int dim = 0;
  for (int64_t extent : wanted) {
    if (!fits) break;
    fits = extent == kAnyExtent || array.size(dim) == extent;
    ++dim;
  }
  if (fits) return;
  std::string expected = "(";
  for (int64_t extent : wanted) {
    expected += (expected.size() > 1 ? ", " : "") +
                (extent == kAnyExtent ? std::string("*") : std::to_string(extent));
  }
  expected += wanted.size() == 1 ? ",)" : ")";
  fail(std::string(argument) + " must have shape " + expected + ", got " +
       shape_string(array.shape()));
}

void Checker::shape_like(const char* argument, const Array& array, const Array& other) const {
  if (array.shape() == other.shape()) return;
  fail(std::string(argument) + " must have shape " + shape_string(other.shape()) + ", got " +
       shape_string(array.shape()));
}

void Checker::ndim(const char* argument, const Array& array, int wanted) const {
  if (array.ndim() == wanted) return;
  fail(std::string(argument) + " must have " + std::to_string(wanted) + " dimensions, got shape " +
       shape_string(array.shape()));
}

void Checker::dtype(const char* argument, const Array& array,
                    std::initializer_list<DType> wanted) const {
  std::string names;
  for (DType dtype : wanted) {
    if (array.dtype() == dtype) return;
    names += (names.empty() ? "" : " or ") + std::string(dtype_name(dtype));
  }
  throw DTypeError(std::string(op_) + ": " + argument + " must be " + names + ", got " +
                   dtype_name(array.dtype()) + "; convert it with .to(\"" +
                   dtype_name(*wanted.begin()) + "\")");
}

void Checker::floating(const char* argument, const Array& array) const {
  dtype(argument, array, {DType::float32, DType::float16, DType::bfloat16});
}

void Checker::integer(const char* argument, const Array& array) const {
  dtype(argument, array, {DType::int64, DType::int32});
}

void Checker::contiguous(const char* argument, const Array& array) const {
  if (!array.contiguous()) fail(std::string(argument) + " must be contiguous; call .contiguous()");
}

void Checker::unit_stride(const char* argument, const Array& array) const {
  // NumPy gives an empty array strides of 0.
  if (array.numel() == 0 || array.ndim() == 0 || array.size(-1) <= 1 ||
      array.view().strides[array.ndim() - 1] == 1)
    return;
  fail(std::string(argument) + " must be dense along its last dimension; call .contiguous()");
}

void Checker::same_device(std::initializer_list<const Array*> arrays) const {
  const Array* first = nullptr;
  for (const Array* array : arrays) {
    if (array == nullptr) continue;
    if (first == nullptr) first = array;
    if (array->device() == first->device()) continue;
    throw DeviceError(std::string(op_) + ": all tensors must be on one device, got " +
                      device_name(first->device()) + " and " + device_name(array->device()) +
                      "; move them with .to(device)");
  }
}

// ---------------------------------------------------------------------------------------------
// Workspace

Workspace::Workspace(int64_t bytes, const Execution& on)
    : bytes_(static_cast<size_t>(bytes)), on_(on) {
  data_ = on.device.is_cpu() ? allocate(bytes_) : backend_for(on.device).allocate(bytes_, on);
}

Workspace::~Workspace() {
  if (on_.device.is_cpu()) {
    release(data_, bytes_);
  } else {
    backend_or_null(on_.device.type)->release(data_, bytes_, on_);
  }
}

// ---------------------------------------------------------------------------------------------
// Running

bool runs_blocking(const Execution& on) {
  static const char* const setting = std::getenv("PYMODEL_CUDA_BLOCKING");
  static const bool asked_for = setting != nullptr && std::string(setting) == "1";
  const bool blocking =
      on.device.type == DeviceType::simt || (asked_for && on.device.type == DeviceType::cuda);
  return blocking && !backend_for(on.device).capturing(on);
}

void throw_no_kernel(const char* name, Device device) {
  throw DeviceError(std::string(name) + ": this build of pymodel has no kernel for device '" +
                    device_name(device) + "'; use device='cpu'");
}

bool found_outside(const Array& integers, int64_t most, Fault fault) {
  const Device device = integers.device();
  const Execution on = current_execution(device);
  FaultReport report(device, fault);
  {
    py::gil_scoped_release released;
    backend_for(device).check_range(integers.view(), most, report.slot(), on);
    if (runs_blocking(on)) backend_for(device).synchronize(on);
  }
  return report.position() >= 0;
}

// ---------------------------------------------------------------------------------------------
// Module

static void translate_exceptions(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const DTypeError& error) {
    py::set_error(PyExc_TypeError, error.what());
  } catch (const ShapeError& error) {
    py::set_error(PyExc_ValueError, error.what());
  } catch (const OutOfMemory& error) {
    py::set_error(PyExc_MemoryError, error.what());
  } catch (const DeviceError& error) {
    const py::object type = py::module_::import("pymodel.errors").attr("DeviceError");
    py::set_error(type, error.what());
  }
}

PYBIND11_MODULE(_core, m) {
  m.doc() = "Kernels and arrays of pymodel; use them through pymodel.ops and pymodel.Tensor.";
  py::register_exception_translator(translate_exceptions);
  for (BindFunction bind : bind_functions()) bind(m);
  active_isa();  // a wrong PYMODEL_CPU_ISA is an error at import, not at the first product
}

}  // namespace pymodel
