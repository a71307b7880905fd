#include "bindings/kept_weights.h"

#include <algorithm>
#include <atomic>
#include <iterator>

#include "bindings/bindings.h"

namespace pymodel {

static std::atomic<int64_t> version{0};
static thread_local std::vector<KeptWeights*> in_use;

void weights_changed() { ++version; }

static bool same_view(const Array& a, const Array& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && a.strides() == b.strides();
}

KeptWeights::KeptWeights(std::vector<Array> weights)
    : weights_(std::move(weights)), version_(version) {
  for (const Array& weight : weights_) {
    if (weight.device().is_cpu() && weight.ndim() == 2) forms_[weight.view().data];
  }
}

KeptWeight* KeptWeights::find(const Gemm& g, const Array& b) {
  if (version_ != version) {
    for (auto& forms : forms_) {
      for (auto& form : forms.second) form->filled = false;
    }
    version_ = version;
  }
  const auto forms = forms_.find(b.view().data);
  if (forms == forms_.end() || !gemm_keeps_b(g)) return nullptr;
  for (auto& form : forms->second) {
    if (same_view(form->factor, b)) return form.get();
  }
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
  for (KeptWeights* const kept : in_use) {  // the outermost block that knows it: one copy is enough
    if (KeptWeight* const form = kept->find(g, b)) return form;
  }
  return nullptr;
}

PYMODEL_BINDINGS(m) {
  py::class_<KeptWeights>(m, "KeptWeights")
      .def(py::init<std::vector<Array>>(), py::arg("weights"))
      .def("enter", [](KeptWeights& kept) { in_use.push_back(&kept); })
      .def("exit",
           [](KeptWeights& kept) {
             const auto last = std::find(in_use.rbegin(), in_use.rend(), &kept);
             if (last != in_use.rend()) in_use.erase(std::next(last).base());
           })
      .def_property_readonly("nbytes", &KeptWeights::bytes);
  m.def("weights_changed", &weights_changed);
}

}  // namespace pymodel
