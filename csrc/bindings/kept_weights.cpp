#include "bindings/kept_weights.h"

#include <algorithm>
#include <atomic>

#include "bindings/bindings.h"

namespace pymodel {

static std::atomic<int64_t> version{0};
static thread_local std::vector<std::shared_ptr<KeptWeights>> in_use;

void weights_changed() { ++version; }

void memory_written(const Array& array) {
  for (const auto& kept : in_use) kept->written(array);
}

static bool same_view(const Array& a, const Array& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && a.strides() == b.strides();
}

KeptWeights::KeptWeights(std::vector<Array> weights)
    : weights_(std::move(weights)), version_(version) {
  for (const Array& weight : weights_) {
    if (weight.device().is_cpu() && weight.ndim() == 2) {
      forms_[weight.view().data];
      storages_.insert(weight.storage().get());
    }
  }
}

void KeptWeights::forget() {
  for (auto& forms : forms_) {
    for (auto& form : forms.second) form->filled = false;
  }
}

void KeptWeights::written(const Array& array) {
  if (storages_.count(array.storage().get()) > 0) forget();
}

KeptWeight* KeptWeights::find(const Gemm& g, const Array& b) {
  if (version_ != version) {
    forget();
    version_ = version;
  }
  const auto forms = forms_.find(b.view().data);
  if (forms == forms_.end() || !gemm_keeps_b(g)) return nullptr;
  for (auto& form : forms->second) {
    if (same_view(form->factor, b)) return form.get();
  }
  if (forms->second.size() == kMostForms) return nullptr;
  const Array packed = Array::empty({gemm_kept_bytes(g)}, DType::uint8, b.device());
  forms->second.push_back(std::make_unique<KeptWeight>(KeptWeight{b, packed, false}));
  return forms->second.back().get();
}

int64_t KeptWeights::bytes() const {
  int64_t bytes = 0;
  for (const auto& forms : forms_) {
    for (const auto& form : forms.second) bytes += form->packed.numel();
  }
  return bytes;
}

KeptWeight* find_kept_weight(const Gemm& g, const Array& b) {
  for (const auto& kept : in_use) {  // the outermost block that knows it: one copy is enough
    if (!kept->is_open) continue;
    if (KeptWeight* const form = kept->find(g, b)) return form;
  }
  return nullptr;
}

// A block may end in another thread than it began in, as that of a generator does which is
// collected there: then only this thread's next block takes it off the list.
static void drop_closed() {
  const auto closed = [](const auto& kept) { return !kept->is_open; };
  in_use.erase(std::remove_if(in_use.begin(), in_use.end(), closed), in_use.end());
}

PYMODEL_BINDINGS(m) {
  py::class_<KeptWeights, std::shared_ptr<KeptWeights>>(m, "KeptWeights")
      .def(py::init<std::vector<Array>>(), py::arg("weights"))
      .def("enter",
           [](const std::shared_ptr<KeptWeights>& kept) {
             drop_closed();
             kept->is_open = true;
             in_use.push_back(kept);
           })
      .def("exit",
           [](KeptWeights& kept) {
             kept.is_open = false;
             drop_closed();
           })
      .def_property_readonly("nbytes", &KeptWeights::bytes);
  m.def("weights_changed", &weights_changed);
  m.def("memory_written", &memory_written, py::arg("array"));
}

}  // namespace pymodel
