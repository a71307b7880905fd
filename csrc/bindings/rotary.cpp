#include "ops/rotary/rotary.h"

#include "bindings/elementwise.h"
#include "bindings/fault.h"

namespace pymodel {
namespace {

void check_table(const Checker& check, const char* name, const Array& table) {
  check.ndim(name, table, 2);
  check.dtype(name, table, {DType::float32});
  check.unit_stride(name, table);
}

// Returns the first token, in row-major order, whose position is no row of the tables, or -1; of a
// device that is not waited for always -1, and the next call that waits raises.
int64_t run(const Array& x, const Array& y, const Array& cos, const Array& sin,
            const Array* position, bool interleaved, bool opposite) {
  const Checker check(opposite ? "rotary backward" : "rotary");
  check.floating("x", x);
  check.ndim("x", x, 4);
  check.unit_stride("x", x);
  check_table(check, "cos", cos);
  check_table(check, "sin", sin);
  check.shape_like("sin", sin, cos);
  if (2 * cos.size(1) > x.size(3)) {
    check.fail("cos and sin turn " + std::to_string(2 * cos.size(1)) +
               " elements of a head, two for each of their columns, but x has heads of " +
               std::to_string(x.size(3)));
  }
  if (position != nullptr) {
    check.dtype("positions", *position, {DType::int64, DType::int32});
    check.shape("positions", *position, {x.size(0), x.size(1)});
  }
  check.shape_like("out", y, x);
  check.dtype("out", y, {x.dtype()});
  check.unit_stride("out", y);
  check_writable(check, y);
  check.same_device({&x, &y, &cos, &sin, position});
  FaultReport invalid(x.device(), Fault::rotary_position);
  const Rotary args{x.view(),    y.view(), cos.view(),    sin.view(), view_or_null(position),
                    interleaved, opposite, invalid.slot()};
  PYMODEL_RUN(rotary, x.device(), args);
  return invalid.position();
}

}  // namespace

PYMODEL_BINDINGS(m) { m.def("rotary", &run); }

}  // namespace pymodel
