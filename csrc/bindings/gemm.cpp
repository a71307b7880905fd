#include "ops/gemm/gemm.h"

#include "bindings/activation.h"
#include "bindings/bindings.h"

namespace pymodel {

static void run_gemm(const Array& a, const Array& b, const Array& c, const Array* bias,
                     const Array* residual, const Array* preactivation, float alpha, float beta,
                     const std::string& activation, bool activation_gradient) {
  const Checker check("gemm");
  check.ndim("a", a, 2);
  check.floating("a", a);
  check.shape("b", b, {a.size(1), kAnyExtent});
  check.dtype("b", b, {a.dtype()});
  const int64_t m = a.size(0), n = b.size(1);
  check.shape("out", c, {m, n});
  check.dtype("out", c, {a.dtype(), DType::float32});
  check.unit_stride("out", c);
  check.same_device({&a, &b, &c, bias, residual, preactivation});
  if (bias != nullptr) {
    check.shape("bias", *bias, {n});
    check.dtype("bias", *bias, {a.dtype()});
    check.unit_stride("bias", *bias);
  }
  if (residual != nullptr) {
    check.shape("residual", *residual, {m, n});
    check.dtype("residual", *residual, {a.dtype()});
    check.unit_stride("residual", *residual);
  }
  if (preactivation != nullptr) {
    check.shape("preactivation", *preactivation, {m, n});
    check.dtype("preactivation", *preactivation, {a.dtype()});
    check.unit_stride("preactivation", *preactivation);
  } else if (activation_gradient) {
    check.fail("activation_gradient needs the preactivation that the forward product saved");
  }
  Gemm g;
  g.a = a.view();
  g.b = b.view();
  g.c = c.view();
  g.bias = view_or_null(bias);
  g.residual = view_or_null(residual);
  g.preactivation = view_or_null(preactivation);
  g.alpha = alpha;
  g.beta = beta;
  g.activation = parse_activation("gemm", activation);
  g.activation_gradient = activation_gradient;
  const Workspace workspace(gemm_workspace(m, n, a.size(1)), current_execution(a.device()));
  g.workspace = workspace.data();
  PYMODEL_RUN(gemm, a.device(), g);
}

// c[i] = a[i] b[i] for stacks of matrices with equal leading dimensions, which may be expanded.
static void run_batched_gemm(const Array& a, const Array& b, const Array& c) {
  const Checker check("matmul");
  check.floating("a", a);
  check.dtype("b", b, {a.dtype()});
  check.same_device({&a, &b, &c});
  const int leading = c.ndim() - 2;
  Gemm g;
  TensorView* const matrices[] = {&g.a, &g.b, &g.c};
  const Array* const stacks[] = {&a, &b, &c};
  int64_t count = 1;
  for (int d = 0; d < leading; ++d) count *= c.size(d);
  const Workspace workspace(gemm_workspace(c.size(-2), c.size(-1), a.size(-1)),
                            current_execution(a.device()));
  g.workspace = workspace.data();
  const auto item = static_cast<int64_t>(item_size(a.dtype()));
  py::gil_scoped_release released;
  for (int64_t i = 0; i < count; ++i) {
    for (int k = 0; k < 3; ++k) {
      const TensorView& stack = stacks[k]->view();
      int64_t offset = 0, rest = i;
      for (int d = leading - 1; d >= 0; --d) {
        offset += rest % stack.shape[d] * stack.strides[d];
        rest /= stack.shape[d];
      }
      TensorView& matrix = *matrices[k];
      matrix.data = static_cast<char*>(stack.data) + offset * item;
      matrix.dtype = stack.dtype;
      matrix.ndim = 2;
      for (int d = 0; d < 2; ++d) {
        matrix.shape[d] = stack.shape[leading + d];
        matrix.strides[d] = stack.strides[leading + d];
      }
    }
    PYMODEL_CPU_KERNEL(gemm)(g);
  }
}

PYMODEL_BINDINGS(m) {
  m.def("gemm", &run_gemm, py::arg("a"), py::arg("b"), py::arg("out"), py::arg("bias") = nullptr,
        py::arg("residual") = nullptr, py::arg("preactivation") = nullptr, py::arg("alpha") = 1.0f,
        py::arg("beta") = 0.0f, py::arg("activation") = "none",
        py::arg("activation_gradient") = false);
  m.def("batched_gemm", &run_batched_gemm, py::arg("a"), py::arg("b"), py::arg("out"));
}

}  // namespace pymodel
