#include "core/array.h"

#include <algorithm>
#include <utility>

#include "core/allocator.h"
#include "core/backend.h"
#include "core/errors.h"

namespace pymodel {
namespace {

constexpr std::pair<DType, const char*> kDTypeNames[] = {
    {DType::float32, "float32"}, {DType::float16, "float16"}, {DType::bfloat16, "bfloat16"},
    {DType::int32, "int32"},     {DType::int64, "int64"},     {DType::uint8, "uint8"},
    {DType::boolean, "bool"},
};

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

int64_t normalize_dim(int64_t dim, int ndim, const char* what) {
  const int64_t wrapped = dim < 0 ? dim + ndim : dim;
  if (wrapped < 0 || wrapped >= ndim) {
    throw ShapeError(std::string(what) + ": dimension " + std::to_string(dim) +
                     " is out of range for a tensor of " + std::to_string(ndim) + " dimensions");
  }
  return wrapped;
}

// Strides under which `view` shows as `shape` without a copy. Runs of dimensions that lie evenly
// in memory act as one; each such run must be filled by whole extents of the new shape.
bool strides_for_reshape(const TensorView& view, const std::vector<int64_t>& shape,
                         std::vector<int64_t>* strides) {
  if (numel(view) == 0) {
    *strides = contiguous_strides(shape);
    return true;
  }
  strides->assign(shape.size(), 1);
  int next = static_cast<int>(shape.size()) - 1;
  int64_t run = 1, innermost = 1;
  for (int dim = view.ndim - 1; dim >= 0; --dim) {
    if (view.shape[dim] == 1) continue;
    if (run == 1) innermost = view.strides[dim];
    run *= view.shape[dim];
    int outer = dim - 1;
    while (outer >= 0 && view.shape[outer] == 1) --outer;
    if (outer >= 0 && view.strides[outer] == innermost * run) continue;
    int64_t filled = 1;
    while (next >= 0 && (filled < run || shape[static_cast<size_t>(next)] == 1)) {
      (*strides)[static_cast<size_t>(next)] = innermost * filled;
      filled *= shape[static_cast<size_t>(next--)];
    }
    if (filled != run) return false;
    run = 1;
  }
  return true;
}

}  // namespace

Storage::Storage(size_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (device.is_cpu()) {
    data_ = allocate(bytes);
    return;
  }
  const Execution on = current_execution(device);
  stream_ = on.stream;
  data_ = backend_for(device).allocate(bytes, on);
}

Storage::Storage(size_t bytes, Backend& pinning)
    : data_(pinning.allocate_pinned(bytes)), bytes_(bytes), pinned_by_(&pinning) {}

Storage::Storage(void* data, size_t bytes, Device device, std::function<void()> on_release,
                 bool read_only)
    : data_(data),
      bytes_(bytes),
      device_(device),
      on_release_(std::move(on_release)),
      read_only_(read_only) {}

Storage::~Storage() {
  if (on_release_) {
    on_release_();
  } else if (pinned_by_ != nullptr) {
    pinned_by_->release_pinned(data_, bytes_);
  } else if (device_.is_cpu()) {
    release(data_, bytes_);
  } else {
    backend_or_null(device_.type)->release(data_, bytes_, {device_, stream_});
  }
}

Array::Array(std::shared_ptr<Storage> storage, int64_t offset, DType dtype,
             const std::vector<int64_t>& shape, const std::vector<int64_t>& strides)
    : storage_(std::move(storage)) {
  if (shape.size() > kMaxDims) {
    throw ShapeError("tensors have at most " + std::to_string(kMaxDims) +
                     " dimensions, got shape " + shape_string(shape));
  }
  view_.data =
      static_cast<char*>(storage_->data()) + offset * static_cast<int64_t>(item_size(dtype));
  view_.dtype = dtype;
  view_.ndim = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), view_.shape);
  std::copy(strides.begin(), strides.end(), view_.strides);
}

// Bytes of a contiguous array.
static size_t bytes_of(const std::vector<int64_t>& shape, DType dtype) {
  int64_t bytes = static_cast<int64_t>(item_size(dtype));
  for (int64_t extent : shape) {
    if (extent < 0) throw ShapeError("a shape has no negative extents, got " + shape_string(shape));
    if (__builtin_mul_overflow(bytes, extent, &bytes)) {
      throw OutOfMemory("a tensor of shape " + shape_string(shape) + " exceeds the address space");
    }
  }
  return static_cast<size_t>(bytes);
}

Array Array::empty(const std::vector<int64_t>& shape, DType dtype, Device device) {
  auto storage = std::make_shared<Storage>(bytes_of(shape, dtype), device);
  return Array(std::move(storage), 0, dtype, shape, contiguous_strides(shape));
}

Array Array::empty_pinned(const std::vector<int64_t>& shape, DType dtype, Backend& pinning) {
  auto storage = std::make_shared<Storage>(bytes_of(shape, dtype), pinning);
  return Array(std::move(storage), 0, dtype, shape, contiguous_strides(shape));
}

std::vector<int64_t> Array::shape() const { return {view_.shape, view_.shape + view_.ndim}; }
std::vector<int64_t> Array::strides() const { return {view_.strides, view_.strides + view_.ndim}; }

Array Array::with(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                  int64_t offset_elements) const {
  Array result(storage_, 0, view_.dtype, shape, strides);
  result.view_.data = static_cast<char*>(view_.data) +
                      offset_elements * static_cast<int64_t>(item_size(view_.dtype));
  return result;
}

Array Array::reshape(std::vector<int64_t> shape) const {
  const std::string wanted = shape_string(shape);
  int64_t known = 1;
  int64_t* unknown = nullptr;
  for (int64_t& extent : shape) {
    if (extent == -1 && unknown == nullptr) {
      unknown = &extent;
    } else if (extent < 0) {
      throw ShapeError("reshape: only one extent may be -1, got " + wanted);
    } else {
      known *= extent;
    }
  }
  if (unknown != nullptr) *unknown = known == 0 ? 0 : numel() / known;
  int64_t total = known * (unknown != nullptr ? *unknown : 1);
  if (total != numel()) {
    throw ShapeError("reshape: a tensor of shape " + shape_string(this->shape()) + " has " +
                     std::to_string(numel()) + " elements and cannot take shape " + wanted);
  }
  if (contiguous()) return with(shape, contiguous_strides(shape), 0);
  std::vector<int64_t> strides;
  if (!strides_for_reshape(view_, shape, &strides)) {
    throw ShapeError("view: a tensor of shape " + shape_string(this->shape()) + " and strides " +
                     shape_string(this->strides()) + " has no view of shape " + wanted +
                     "; use reshape, which copies");
  }
  return with(shape, strides, 0);
}

Array Array::permute(const std::vector<int64_t>& dims) const {
  std::vector<int64_t> shape, strides;
  std::vector<bool> seen(static_cast<size_t>(view_.ndim), false);
  for (int64_t dim : dims) {
    const int64_t d = normalize_dim(dim, view_.ndim, "permute");
    if (seen[static_cast<size_t>(d)]) throw ShapeError("permute: a dimension is named twice");
    seen[static_cast<size_t>(d)] = true;
    shape.push_back(view_.shape[d]);
    strides.push_back(view_.strides[d]);
  }
  if (static_cast<int>(dims.size()) != view_.ndim) {
    throw ShapeError("permute: expected " + std::to_string(view_.ndim) + " dimensions, got " +
                     std::to_string(dims.size()));
  }
  return with(shape, strides, 0);
}

Array Array::slice(int64_t dim, int64_t start, int64_t stop, int64_t step) const {
  dim = normalize_dim(dim, view_.ndim, "slice");
  if (step < 1) throw ShapeError("slice: the step must be positive, got " + std::to_string(step));
  const int64_t extent = view_.shape[dim];
  start = std::clamp<int64_t>(start < 0 ? start + extent : start, 0, extent);
  stop = std::clamp<int64_t>(stop < 0 ? stop + extent : stop, start, extent);
  auto shape = this->shape(), strides = this->strides();
  shape[static_cast<size_t>(dim)] = (stop - start + step - 1) / step;
  strides[static_cast<size_t>(dim)] *= step;
  return with(shape, strides, start * view_.strides[dim]);
}

Array Array::select(int64_t dim, int64_t index) const {
  dim = normalize_dim(dim, view_.ndim, "select");
  const int64_t extent = view_.shape[dim];
  const int64_t wrapped = index < 0 ? index + extent : index;
  if (wrapped < 0 || wrapped >= extent) {
    throw std::out_of_range("index " + std::to_string(index) + " is out of range for dimension " +
                            std::to_string(dim) + " of extent " + std::to_string(extent));
  }
  auto shape = this->shape(), strides = this->strides();
  shape.erase(shape.begin() + dim);
  strides.erase(strides.begin() + dim);
  return with(shape, strides, wrapped * view_.strides[dim]);
}

Array Array::unsqueeze(int64_t dim) const {
  dim = normalize_dim(dim, view_.ndim + 1, "unsqueeze");
  auto shape = this->shape(), strides = this->strides();
  shape.insert(shape.begin() + dim, 1);
  strides.insert(strides.begin() + dim, 1);
  return with(shape, strides, 0);
}

Array Array::expand(const std::vector<int64_t>& shape) const {
  const size_t extra = shape.size() - static_cast<size_t>(view_.ndim);
  std::vector<int64_t> strides(shape.size(), 0);
  bool fits = shape.size() >= static_cast<size_t>(view_.ndim);
  for (size_t i = 0; fits && i < static_cast<size_t>(view_.ndim); ++i) {
    const bool same = view_.shape[i] == shape[extra + i];
    fits = same || view_.shape[i] == 1;
    strides[extra + i] = same ? view_.strides[i] : 0;
  }
  if (!fits) {
    throw ShapeError("a tensor of shape " + shape_string(this->shape()) +
                     " cannot be broadcast to " + shape_string(shape));
  }
  return with(shape, strides, 0);
}

const char* dtype_name(DType dtype) {
  for (const auto& [known, name] : kDTypeNames) {
    if (known == dtype) return name;
  }
  return "?";
}

DType parse_dtype(const std::string& name) {
  std::string known_names;
  for (const auto& [dtype, known] : kDTypeNames) {
    if (name == known) return dtype;
    known_names += (known_names.empty() ? "" : ", ") + std::string(known);
  }
  throw DTypeError("dtype '" + name + "' is unknown; expected one of " + known_names);
}

std::string shape_string(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace pymodel
