// CPU gemm: few rows, as in decoding one token, are multiplied without packing, since each weight
// is used only once or a few times there (gemm_few_rows_cpu.h). All other products are blocked
// (gemm_blocked_cpu.h), those of bfloat16 and the larger ones of float32 on the matrix unit where
// there is one (gemm_tiles_cpu.h).
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "ops/gemm/gemm_blocked_cpu.h"
#include "ops/gemm/gemm_few_rows_cpu.h"
#include "ops/gemm/gemm_tiles_cpu.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// K = 0: the product is zero, the epilogue still runs.
template <typename T, typename Out>
static void empty_product(const Gemm& g) {
  const float zeros[kLanes] = {};
  for (int64_t i = 0; i < g.c.shape[0]; ++i) {
    for (int64_t j = 0; j < g.c.shape[1]; j += kLanes) {
      finish_tile<T, Out>(g, zeros, kLanes, i, j, 1, smaller(kLanes, g.c.shape[1] - j));
    }
  }
}

template <typename T, typename Out>
static void product(const Gemm& g) {
  if (g.c.shape[0] == 0 || g.c.shape[1] == 0) return;
  if (g.a.shape[1] == 0) return empty_product<T, Out>(g);
  if (gemm_cpu_few_rows(g, true) && g.a.strides[1] == 1 && g.b.strides[0] == 1)
    return few_rows_dot<T, Out>(g);
  if (gemm_cpu_few_rows(g, false) && g.b.strides[1] == 1) return few_rows_axpy<T, Out>(g);
  if (gemm_in_tiles(g)) return;
  blocked_product<T, Out>(g);
}

template <typename T>
static void product_into(const Gemm& g) {
  if (g.c.dtype == DType::float32) return product<T, float>(g);
  product<T, T>(g);
}

// Small products of a stack, one on each thread.
template <typename T>
static void spread_stack(const Gemm& g, int64_t count) {
  const int64_t share = gemm_share(g, 1);
  const int64_t m = g.c.shape[g.c.ndim - 2], n = g.c.shape[g.c.ndim - 1];
  parallel_for(count, count * m * n * g.a.shape[g.a.ndim - 1], [&](int64_t i) {
    Gemm item = gemm_item(g, i);
    item.workspace = static_cast<float*>(g.workspace) + omp_get_thread_num() * share;
    product_into<T>(item);
  });
}

}  // namespace

void gemm(const Gemm& g) {
  const int64_t count = gemm_count(g);
  dispatch_floating(g.a.dtype, [&](auto type) {
    typedef decltype(type) T;
    if (gemm_spreads_stack(g)) return spread_stack<T>(g, count);
    for (int64_t i = 0; i < count; ++i) product_into<T>(gemm_item(g, i));
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
