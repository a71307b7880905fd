// DLPack: arrays given to and taken from other libraries without a copy.
//
// A capsule holds a message with a deleter. Whoever takes the memory renames the capsule and calls
// the deleter when done; a capsule that nobody took calls it when it is collected.
#include "core/dlpack.h"

#include <string>
#include <type_traits>
#include <vector>

#include "bindings/bindings.h"

namespace pymodel {
namespace {

struct TypeEntry {
  DType dtype;
  dlpack::TypeCode code;
  uint8_t bits;
};

constexpr TypeEntry kTypes[] = {
    {DType::float32, dlpack::kFloat, 32},   {DType::float16, dlpack::kFloat, 16},
    {DType::bfloat16, dlpack::kBFloat, 16}, {DType::int32, dlpack::kInt, 32},
    {DType::int64, dlpack::kInt, 64},       {DType::uint8, dlpack::kUInt, 8},
    {DType::boolean, dlpack::kBool, 8},
};

dlpack::DataType to_message_type(DType dtype) {
  for (const TypeEntry& entry : kTypes) {
    if (entry.dtype == dtype) return {static_cast<uint8_t>(entry.code), entry.bits, 1};
  }
  throw DTypeError(std::string("__dlpack__: DLPack has no type for ") + dtype_name(dtype));
}

std::string type_text(dlpack::DataType type) {
  static constexpr std::pair<dlpack::TypeCode, const char*> kNames[] = {
      {dlpack::kInt, "int"},       {dlpack::kUInt, "uint"},       {dlpack::kFloat, "float"},
      {dlpack::kBFloat, "bfloat"}, {dlpack::kComplex, "complex"}, {dlpack::kBool, "bool"},
  };
  std::string text = "type code " + std::to_string(type.code) + ", bits ";
  for (const auto& [code, name] : kNames) {
    if (code == type.code) text = name;
  }
  text += std::to_string(type.bits);
  return type.lanes == 1 ? text : text + " in vectors of " + std::to_string(type.lanes);
}

DType from_message_type(dlpack::DataType type) {
  std::string known;
  for (const TypeEntry& entry : kTypes) {
    if (type.code == entry.code && type.bits == entry.bits && type.lanes == 1) return entry.dtype;
    known += (known.empty() ? "" : ", ") + std::string(dtype_name(entry.dtype));
  }
  std::string way_out = "convert it with .long() or .astype(\"int64\")";
  if (type.code == dlpack::kFloat) way_out = "convert it with .float() or .astype(\"float32\")";
  if (type.code == dlpack::kComplex) way_out = "take .real and .imag with .float() each";
  throw DTypeError("from_dlpack: the array must be one of " + known + ", got " + type_text(type) +
                   "; " + way_out);
}

dlpack::Device to_message_device(Device device) {
  switch (device.type) {
    case DeviceType::cuda:
      return {dlpack::kCuda, device.index};
    case DeviceType::simt:
      return {dlpack::kExtension, device.index};
    case DeviceType::cpu:
      break;
  }
  return {dlpack::kCpu, 0};
}

bool has_device(Device device) {
  Backend* const backend = backend_or_null(device.type);
  return backend != nullptr && device.index >= 0 && device.index < backend->device_count();
}

Device from_message_device(dlpack::Device device) {
  static constexpr std::pair<dlpack::DeviceType, const char*> kNames[] = {
      {dlpack::kOpenCl, "opencl"},
      {dlpack::kVulkan, "vulkan"},
      {dlpack::kMetal, "metal"},
      {dlpack::kRocm, "rocm"},
      {dlpack::kRocmHost, "rocm_host"},
      {dlpack::kOneApi, "oneapi"},
      {dlpack::kExtension, "a device of its own library"},
  };
  std::string name = "DLPack device type " + std::to_string(device.type);
  switch (device.type) {
    case dlpack::kCpu:
    case dlpack::kCudaHost:
      return Device{};
    case dlpack::kCuda:
    case dlpack::kCudaManaged:
      name = "cuda";
      if (has_device({DeviceType::cuda, device.index})) return {DeviceType::cuda, device.index};
      break;
    case dlpack::kExtension:
      if (has_device({DeviceType::simt, device.index})) return {DeviceType::simt, device.index};
      break;
  }
  for (const auto& [type, text] : kNames) {
    if (type == device.type) name = text;
  }
  std::string reason = "where this build of pymodel has no kernels";
  const std::string no_gpu = why_unavailable(DeviceType::cuda);
  if (name == "cuda" && !no_gpu.empty()) reason = "and " + no_gpu;
  throw DeviceError("from_dlpack: the array lies on " + name + ":" + std::to_string(device.index) +
                    ", " + reason + "; move it to the CPU first, in torch with .cpu()");
}

// ---------------------------------------------------------------------------------------------
// Giving

// What a message points to, and what it keeps alive.
template <typename Message>
struct Export {
  explicit Export(const Array& source)
      : array(source), shape(source.shape()), strides(source.strides()) {
    message.owner = this;
    // Needs no GIL: memory that Python must release takes it by itself (Storage::on_release_).
    message.deleter = [](Message* done) { delete static_cast<Export*>(done->owner); };
    message.tensor = {array.view().data,
                      to_message_device(array.device()),
                      array.ndim(),
                      to_message_type(array.dtype()),
                      shape.data(),
                      strides.data(),
                      0};
  }

  Message message{};
  Array array;
  std::vector<int64_t> shape, strides;
};

template <typename Message>
void delete_if_unused(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, Message::kName)) return;
  auto* message = static_cast<Message*>(PyCapsule_GetPointer(capsule, Message::kName));
  message->deleter(message);
}

template <typename Message>
py::object capsule_of(Message* message) {
  PyObject* capsule = PyCapsule_New(message, Message::kName, &delete_if_unused<Message>);
  if (capsule == nullptr) {
    message->deleter(message);
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(capsule);
}

py::object to_dlpack(const Array& array, bool versioned, bool copied) {
  if (versioned) {
    dlpack::ManagedVersioned& message = (new Export<dlpack::ManagedVersioned>(array))->message;
    message.version = dlpack::kVersion;
    message.flags = (array.storage()->read_only() ? dlpack::ManagedVersioned::kReadOnly : 0) |
                    (copied ? dlpack::ManagedVersioned::kIsCopied : 0);
    return capsule_of(&message);
  }
  if (array.storage()->read_only()) {
    throw py::buffer_error(
        "__dlpack__: the tensor is read-only, which the consumer cannot be told before DLPack 1.0; "
        "pass tensor.clone()");
  }
  return capsule_of(&(new Export<dlpack::Managed>(array))->message);
}

// ---------------------------------------------------------------------------------------------
// Taking

// Strides in elements, and the bytes from the first element to the end of the last.
std::vector<int64_t> strides_of(const dlpack::Tensor& tensor, size_t item_bytes, size_t* bytes) {
  std::vector<int64_t> strides(static_cast<size_t>(tensor.ndim));
  int64_t dense = 1, last = 0;
  bool empty = false;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    const int64_t stride = tensor.strides == nullptr ? dense : tensor.strides[i];
    if (stride < 0) throw ShapeError("from_dlpack: the array has negative strides; copy it first");
    strides[static_cast<size_t>(i)] = stride;
    empty = empty || tensor.shape[i] == 0;
    last += (tensor.shape[i] - 1) * stride;
    dense *= tensor.shape[i];
  }
  *bytes = empty ? 0 : static_cast<size_t>(last + 1) * item_bytes;
  return strides;
}

template <typename Message>
Array take(const py::object& capsule) {
  auto* message = static_cast<Message*>(PyCapsule_GetPointer(capsule.ptr(), Message::kName));
  bool read_only = false;
  if constexpr (std::is_same_v<Message, dlpack::ManagedVersioned>) {
    if (message->version.major != dlpack::kVersion.major) {
      throw py::buffer_error("from_dlpack: the producer speaks DLPack " +
                             std::to_string(message->version.major) + "." +
                             std::to_string(message->version.minor) + ", expected version 1");
    }
    read_only = (message->flags & dlpack::ManagedVersioned::kReadOnly) != 0;
  }
  const dlpack::Tensor& tensor = message->tensor;
  const Device device = from_message_device(tensor.device);
  const DType dtype = from_message_type(tensor.dtype);
  const std::vector<int64_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  size_t bytes = 0;
  const std::vector<int64_t> strides = strides_of(tensor, item_size(dtype), &bytes);

  auto on_release = [message] {
    if (message->deleter == nullptr || !Py_IsInitialized()) return;
    // Some producers let go of Python objects here without asking for the GIL.
    py::gil_scoped_acquire locked;
    message->deleter(message);
  };
  // Kernels take a null pointer for an argument that was not given; an empty tensor may hold one.
  static char nothing;
  char* data = tensor.data == nullptr ? &nothing : static_cast<char*>(tensor.data);
  // From here on the memory is ours to release, also when a later line throws.
  if (PyCapsule_SetName(capsule.ptr(), Message::kUsedName) != 0) throw py::error_already_set();
  auto storage =
      std::make_shared<Storage>(data + tensor.byte_offset, bytes, device, on_release, read_only);
  return Array(std::move(storage), 0, dtype, shape, strides);
}

Array from_dlpack(const py::object& capsule) {
  using dlpack::Managed;
  using dlpack::ManagedVersioned;
  if (PyCapsule_IsValid(capsule.ptr(), ManagedVersioned::kName))
    return take<ManagedVersioned>(capsule);
  if (PyCapsule_IsValid(capsule.ptr(), Managed::kName)) return take<Managed>(capsule);
  for (const char* used : {ManagedVersioned::kUsedName, Managed::kUsedName}) {
    if (!PyCapsule_IsValid(capsule.ptr(), used)) continue;
    throw ShapeError(
        "from_dlpack: the capsule was consumed before, and its memory has another owner; pass the "
        "array itself, which makes a new capsule");
  }
  throw DTypeError("from_dlpack: expected an object with __dlpack__ or a DLPack capsule, got " +
                   py::str(py::type::of(capsule).attr("__name__")).cast<std::string>());
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("to_dlpack", &to_dlpack, py::arg("array"), py::arg("versioned"), py::arg("copied"));
  m.def("from_dlpack", &from_dlpack);
  m.def("dlpack_device", [](const Array& array) {
    const dlpack::Device device = to_message_device(array.device());
    return py::make_tuple(device.type, device.index);
  });
}

}  // namespace pymodel
