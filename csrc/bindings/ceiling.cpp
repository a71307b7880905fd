#include "ops/ceiling/ceiling.h"

#include "bindings/bindings.h"

namespace pymodel {
namespace {

void check_buffer(const Checker& check, const char* name, const Array& array) {
  check.ndim(name, array, 1);
  check.dtype(name, array, {DType::float32});
  check.contiguous(name, array);
  if (!array.device().is_cpu()) check.fail(std::string(name) + " must lie on the CPU");
}

double products(const std::string& dtype, int64_t steps) {
  double flop = 0.0;
  CeilingProducts args;
  args.dtype = parse_dtype(dtype);
  args.steps = steps;
  args.flop = &flop;
  const py::gil_scoped_release released;
  PYMODEL_CPU_KERNEL(ceiling_products)(args);
  return flop;
}

void copy(const Array& source, const Array& target) {
  const Checker check("ceiling_copy");
  check_buffer(check, "source", source);
  check_buffer(check, "target", target);
  check.shape_like("target", target, source);
  CeilingCopy args;
  args.source = data_as<const float>(source.view());
  args.target = data_as<float>(target.view());
  args.count = source.size(0);
  const py::gil_scoped_release released;
  PYMODEL_CPU_KERNEL(ceiling_copy)(args);
}

float read(const Array& source) {
  check_buffer(Checker("ceiling_read"), "source", source);
  float total = 0.0f;
  CeilingRead args;
  args.source = data_as<const float>(source.view());
  args.count = source.size(0);
  args.total = &total;
  const py::gil_scoped_release released;
  PYMODEL_CPU_KERNEL(ceiling_read)(args);
  return total;
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("ceiling_products", &products);
  m.def("ceiling_copy", &copy);
  m.def("ceiling_read", &read);
}

}  // namespace pymodel
