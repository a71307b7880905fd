// The array behind a Python tensor: shared storage plus shape, strides and type.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/tensor_view.h"

namespace pymodel {

class Backend;

// A block of memory and how to give it back; foreign memory (NumPy, DLPack) brings its own way.
class Storage {
 public:
  // From the device's allocator, in the order of the stream that is current there.
  Storage(size_t bytes, Device device);
  // Host memory that `pinning`'s devices copy from and to by themselves.
  Storage(size_t bytes, Backend& pinning);
  Storage(void* data, size_t bytes, Device device, std::function<void()> on_release,
          bool read_only = false);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool read_only() const { return read_only_; }      // foreign memory that must not be written
  Backend* pinned_by() const { return pinned_by_; }  // null for ordinary memory

 private:
  void* data_;
  size_t bytes_;
  Device device_;
  void* stream_ = nullptr;            // in whose order device memory is released
  std::function<void()> on_release_;  // empty: the memory is an allocator's
  Backend* pinned_by_ = nullptr;
  bool read_only_ = false;
};

class Array {
 public:
  Array() = default;
  Array(std::shared_ptr<Storage> storage, int64_t offset, DType dtype,
        const std::vector<int64_t>& shape, const std::vector<int64_t>& strides);

  // Uninitialised and contiguous.
  static Array empty(const std::vector<int64_t>& shape, DType dtype, Device device);
  // The same in pinned memory of the host.
  static Array empty_pinned(const std::vector<int64_t>& shape, DType dtype, Backend& pinning);

  const TensorView& view() const { return view_; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  Device device() const { return storage_->device(); }
  DType dtype() const { return view_.dtype; }
  int ndim() const { return view_.ndim; }
  int64_t size(int dim) const { return view_.shape[dim < 0 ? dim + view_.ndim : dim]; }
  int64_t numel() const { return pymodel::numel(view_); }
  bool contiguous() const { return is_contiguous(view_); }
  std::vector<int64_t> shape() const;
  std::vector<int64_t> strides() const;

  // Views of the same storage. All throw ShapeError when the view cannot exist.
  Array reshape(std::vector<int64_t> shape) const;  // one extent may be -1; contiguous arrays only
  Array permute(const std::vector<int64_t>& dims) const;
  Array slice(int64_t dim, int64_t start, int64_t stop, int64_t step) const;
  Array expand(const std::vector<int64_t>& shape) const;
  Array select(int64_t dim, int64_t index) const;
  Array unsqueeze(int64_t dim) const;

 private:
  Array with(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
             int64_t offset_elements) const;

  std::shared_ptr<Storage> storage_;
  TensorView view_;
};

const char* dtype_name(DType dtype);
DType parse_dtype(const std::string& name);  // throws DTypeError, listing the known names
std::string shape_string(const std::vector<int64_t>& shape);

}  // namespace pymodel
