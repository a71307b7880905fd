// Shared by all bindings: registration, argument checks, and running a kernel without the GIL.
//
// A bindings file holds the entry points of one op inside PYMODEL_BINDINGS(m) { m.def(...); }.
// Being compiled into the module registers it; there is no list to extend.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <string>

#include "core/array.h"
#include "core/backend.h"
#include "core/errors.h"
#include "core/kernel.h"

namespace pymodel {

namespace py = pybind11;

// ---------------------------------------------------------------------------------------------
// Registration

using BindFunction = void (*)(py::module_&);

class Registrar {
 public:
  explicit Registrar(BindFunction bind);
};

#define PYMODEL_BINDINGS(m)                                                 \
  static void bind_this_file(::pybind11::module_& m);                       \
  static const ::pymodel::Registrar registrar_of_this_file(bind_this_file); \
  static void bind_this_file(::pybind11::module_& m)

// ---------------------------------------------------------------------------------------------
// Checks. `op` and `argument` name what the user called; optional arrays arrive as null pointers.

constexpr int64_t kAnyExtent = -1;

class Checker {
 public:
  explicit Checker(const char* op) : op_(op) {}

  // kAnyExtent matches every extent.
  void shape(const char* argument, const Array& array, std::initializer_list<int64_t> wanted) const;
  void shape_like(const char* argument, const Array& array, const Array& other) const;
  void ndim(const char* argument, const Array& array, int wanted) const;
  void dtype(const char* argument, const Array& array, std::initializer_list<DType> wanted) const;
  void floating(const char* argument, const Array& array) const;
  void integer(const char* argument, const Array& array) const;  // int32 or int64
  void contiguous(const char* argument, const Array& array) const;
  // The last dimension lies densely in memory.
  void unit_stride(const char* argument, const Array& array) const;
  // All given arrays lie on one device; null pointers are passed over.
  void same_device(std::initializer_list<const Array*> arrays) const;
  [[noreturn]] void fail(const std::string& message) const;  // ShapeError "op: message"

 private:
  const char* op_;
};

inline TensorView view_or_null(const Array* array) {
  return array == nullptr ? TensorView{} : array->view();
}

// Scratch memory that lives as long as one kernel call: host memory, or memory of the device that
// the kernel runs on, which is released in the order of its stream.
class Workspace {
 public:
  Workspace(int64_t bytes, const Execution& on);
  // What the kernel of this device asks for: the CPU's and the others' have their own sizes.
  Workspace(Device device, int64_t cpu_bytes, int64_t device_bytes)
      : Workspace(device.is_cpu() ? cpu_bytes : device_bytes, current_execution(device)) {}
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
  size_t bytes_;
  Execution on_;
};

// Runs the kernel built for `device`, in its current stream and without the GIL.
#define PYMODEL_RUN(name, device, arguments)                                             \
  ::pymodel::run_kernel(#name, device, PYMODEL_CPU_KERNEL(name), &::pymodel::cuda::name, \
                        &::pymodel::simt::name, arguments)

template <typename Arguments>
using DeviceKernel = void(const Arguments&, const Execution&);

// Whether every kernel is waited for before the next line runs: on the emulator, and on GPUs with
// PYMODEL_CUDA_BLOCKING=1, so that an error is raised by the call that caused it. Never while a
// graph is being captured, when nothing runs.
bool runs_blocking(const Execution& on);

[[noreturn]] void throw_no_kernel(const char* name, Device device);

template <typename Arguments>
void run_kernel(const char* name, Device device, void (*cpu)(const Arguments&),
                DeviceKernel<Arguments>* cuda, DeviceKernel<Arguments>* simt,
                const Arguments& arguments) {
  if (device.is_cpu()) {
    py::gil_scoped_release released;
    cpu(arguments);
    return;
  }
  DeviceKernel<Arguments>* const kernel = device.type == DeviceType::cuda ? cuda : simt;
  if (kernel == nullptr) throw_no_kernel(name, device);
  const Execution on = current_execution(device);
  const DeviceGuard guard(device);
  py::gil_scoped_release released;
  kernel(arguments, on);
  if (runs_blocking(on)) backend_for(device).synchronize(on);
}

}  // namespace pymodel
