#include "bindings/gemm.h"

#include <omp.h>

#include <atomic>

#include "bindings/activation.h"
#include "bindings/kept_weights.h"
#include "ops/gemm/gemm.h"

namespace pymodel {

// Of the process, as in torch: set_float32_matmul_precision("high").
static std::atomic<bool> tf32_allowed{false};

static void run(Gemm& g, Device device) {
  const int64_t bytes = device.type == DeviceType::cpu ? gemm_workspace(g, omp_get_max_threads())
                                                       : gemm_device_workspace(g);
  const Workspace workspace(bytes, current_execution(device));
  g.workspace = workspace.data();
  g.tf32 = tf32_allowed;
  PYMODEL_RUN(gemm, device, g);
}

void run_gemm(const Array& a, const Array& b, const Array& c, const Array* bias,
              const Array* residual, const Array* preactivation, float alpha, float beta,
              const std::string& activation, bool activation_gradient, bool b_is_weight) {
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
  KeptWeight* const kept = b_is_weight ? find_kept_weight(g, b) : nullptr;
  if (kept != nullptr) {
    g.kept_b = kept->packed.view().data;
    g.is_kept = kept->filled;
  }
  run(g, a.device());
  if (kept != nullptr) kept->filled = true;
}

// c[i] = a[i] b[i] for stacks of matrices with equal leading dimensions, which may be expanded.
static void run_batched_gemm(const Array& a, const Array& b, const Array& c) {
  const Checker check("matmul");
  check.floating("a", a);
  check.dtype("b", b, {a.dtype()});
  check.dtype("out", c, {a.dtype(), DType::float32});
  check.unit_stride("out", c);
  check.same_device({&a, &b, &c});
  Gemm g;
  g.a = a.view();
  g.b = b.view();
  g.c = c.view();
  run(g, a.device());
}

PYMODEL_BINDINGS(m) {
  m.def("gemm", &run_gemm, py::arg("a"), py::arg("b"), py::arg("out"), py::arg("bias") = nullptr,
        py::arg("residual") = nullptr, py::arg("preactivation") = nullptr, py::arg("alpha") = 1.0f,
        py::arg("beta") = 0.0f, py::arg("activation") = "none",
        py::arg("activation_gradient") = false, py::arg("b_is_weight") = false);
  m.def("batched_gemm", &run_batched_gemm, py::arg("a"), py::arg("b"), py::arg("out"));
  m.def("set_tf32", [](bool allowed) { tf32_allowed = allowed; }, py::arg("allowed"));
  m.def("tf32", [] { return tf32_allowed.load(); });
}

}  // namespace pymodel
