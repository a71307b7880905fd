#include "ops/dropout/dropout.h"

#include "bindings/bindings.h"

namespace pymodel {

static void run(const Array& x, const Array* residual, const Array& y, double p, uint64_t seed,
                uint64_t offset) {
  const Checker check("dropout");
  check.ndim("x", x, 1);
  check.floating("x", x);
  for (auto [name, array] :
       {std::pair{"x", &x}, std::pair{"residual", residual}, std::pair{"out", &y}}) {
    if (array == nullptr) continue;
    check.shape_like(name, *array, x);
    check.dtype(name, *array, {x.dtype()});
    check.contiguous(name, *array);
  }
  check.same_device({&x, residual, &y});
  Dropout args;
  args.x = x.view();
  args.residual = view_or_null(residual);
  args.y = y.view();
  args.p = p;
  args.seed = seed;
  args.offset = offset;
  PYMODEL_RUN(dropout, x.device(), args);
}

PYMODEL_BINDINGS(m) { m.def("dropout", &run); }

}  // namespace pymodel
