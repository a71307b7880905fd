// Lists of arrays from Python, as the multi-tensor kernels take them.
#pragma once

#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "core/tensor_list.h"

namespace pymodel {

using ArrayList = std::vector<const Array*>;  // of None: a null pointer

// Numbers the elements of tensors through; see core/tensor_list.h.
class TensorNumbering {
 public:
  void add(int64_t count) {
    const int64_t padded = (count + kListAlignment - 1) / kListAlignment * kListAlignment;
    starts_.push_back(starts_.back() + padded);
  }
  // Valid as long as nothing is added.
  TensorList list() const { return {starts_.data(), static_cast<int64_t>(starts_.size()) - 1}; }

 private:
  std::vector<int64_t> starts_ = {0};
};

inline std::string list_item(const char* list, size_t index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

inline bool same_shape(const Array& a, const Array& b) {
  if (a.ndim() != b.ndim()) return false;
  for (int dim = 0; dim < a.ndim(); ++dim) {
    if (a.size(dim) != b.size(dim)) return false;
  }
  return true;
}

// A dense array of another one's shape and place. The name is put together only for an error: a
// step checks hundreds of arrays.
inline void check_beside(const Checker& check, const char* list, size_t index, const Array& array,
                         DType dtype, const Array& parameter) {
  if (array.dtype() == dtype && array.contiguous() && same_shape(array, parameter) &&
      array.device() == parameter.device()) {
    return;
  }
  const std::string name = list_item(list, index);
  check.shape_like(name.c_str(), array, parameter);
  check.dtype(name.c_str(), array, {dtype});
  check.contiguous(name.c_str(), array);
  check.same_device({&parameter, &array});
}

// Checks that each list has one entry per parameter.
inline void check_lengths(const Checker& check, size_t wanted,
                          std::initializer_list<std::pair<const char*, size_t>> lists) {
  for (const auto& [name, length] : lists) {
    if (length == wanted) continue;
    check.fail(std::string(name) + " must have one entry for each of the " +
               std::to_string(wanted) + " parameters, got " + std::to_string(length));
  }
}

// Checks entry `index` of a list of float32 arrays that lie beside the parameters; returns its
// data.
inline float* optimizer_state(const Checker& check, const char* list, const ArrayList& arrays,
                              size_t index, const Array& parameter) {
  const Array* array = arrays[index];
  if (array == nullptr) return nullptr;
  check_beside(check, list, index, *array, DType::float32, parameter);
  return data_as<float>(array->view());
}

// Checks a number that lies on the device of the tensors it belongs to; returns its place, null for
// None.
template <typename T>
inline T* device_scalar(const Checker& check, const char* name, const Array* array, DType dtype,
                        const Array& beside) {
  if (array == nullptr) return nullptr;
  check.shape(name, *array, {});
  check.dtype(name, *array, {dtype});
  check.same_device({&beside, array});
  if (beside.device().is_cpu()) check.fail(std::string(name) + " must be a number on the CPU");
  return data_as<T>(array->view());
}

// Checks parameter and gradient `index`, and that a master is there exactly when one is needed.
inline void check_parameter(const Checker& check, const ArrayList& parameters,
                            const ArrayList& grads, const ArrayList& masters, size_t index) {
  for (auto [list, arrays] : {std::pair{"parameters", &parameters}, std::pair{"grads", &grads}}) {
    if ((*arrays)[index] == nullptr)
      check.fail(list_item(list, index) + " must be an array, got None");
  }
  const Array &parameter = *parameters[index], &grad = *grads[index];
  if (!is_floating(parameter.dtype()) || !parameter.contiguous()) {
    const std::string name = list_item("parameters", index);
    check.floating(name.c_str(), parameter);
    check.contiguous(name.c_str(), parameter);
  }
  check_beside(check, "grads", index, grad, parameter.dtype(), parameter);
  const bool wanted = parameter.dtype() != DType::float32;
  if ((masters[index] != nullptr) == wanted) return;
  check.fail(list_item("masters", index) + (wanted ? " must be given" : " must be None") +
             " for a " + dtype_name(parameter.dtype()) + " parameter");
}

}  // namespace pymodel
