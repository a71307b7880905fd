// CPU gemm: blocks of A and B are packed into panels that stay in cache, then every tile of C is
// the product of a panel of each (cpu/micro_gemm.h). Few rows with many columns, as in decoding
// one token, skip the packing: there each weight is used only once or a few times.
#include "cpu/dispatch.h"
#include "cpu/micro_gemm.h"
#include "cpu/parallel.h"
#include "ops/gemm/gemm_few_rows_cpu.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// ---------------------------------------------------------------------------------------------
// Blocked product

struct Block {
  int64_t row, rows, column, columns, depth_start, depth;
};

template <typename T>
static void pack_block(const Gemm& g, const Block& block, float* packed_a, float* packed_b) {
  const int64_t words = packed_depth<T>(block.depth);
  const int64_t a_panels = blocks(block.rows, kPanelRows);
  const int64_t b_panels = blocks(block.columns, kPanelCols);
  const int64_t cost = (block.rows + block.columns) * block.depth;
  const T* a = data_as<T>(g.a) + block.depth_start * g.a.strides[1];
  const T* b = data_as<T>(g.b) + block.depth_start * g.b.strides[0];
  parallel_for(a_panels + b_panels, cost, [&](int64_t task) {
    if (task < b_panels) {
      const int64_t first = task * kPanelCols;
      const int lines = static_cast<int>(smaller(kPanelCols, block.columns - first));
      pack_panel<kPanelCols>(b + (block.column + first) * g.b.strides[1], g.b.strides[1],
                             g.b.strides[0], lines, block.depth, packed_b + first * words);
    } else {
      const int64_t first = (task - b_panels) * kPanelRows;
      const int lines = static_cast<int>(smaller(kPanelRows, block.rows - first));
      pack_panel<kPanelRows>(a + (block.row + first) * g.a.strides[0], g.a.strides[0],
                             g.a.strides[1], lines, block.depth, packed_a + first * words);
    }
  });
}

// Sums over k of one block go to `sums` (row stride `ld`); the last block of k runs the epilogue.
template <typename T, typename Out>
static void multiply_block(const Gemm& g, const Block& block, const float* packed_a,
                           const float* packed_b, float* sums, int64_t ld, bool direct) {
  constexpr int64_t kTaskRows = 8 * kPanelRows;
  const int64_t words = packed_depth<T>(block.depth);
  const bool first = block.depth_start == 0;
  const bool last = block.depth_start + block.depth == g.a.shape[1];
  const int64_t row_tasks = blocks(block.rows, kTaskRows);
  const int64_t column_tasks = blocks(block.columns, kPanelCols);
  const int64_t cost = block.rows * block.columns * block.depth;
  parallel_for(row_tasks * column_tasks, cost, [&](int64_t task) {
    // Consecutive tasks share the panel of B, which stays in the first-level cache.
    const int64_t j = (task / row_tasks) * kPanelCols;
    const int64_t start = (task % row_tasks) * kTaskRows;
    const int64_t stop = smaller(block.rows, start + kTaskRows);
    const int columns = static_cast<int>(smaller(kPanelCols, block.columns - j));
    float tile[kPanelRows * kPanelCols];
    for (int64_t i = start; i < stop; i += kPanelRows) {
      const int rows = static_cast<int>(smaller(kPanelRows, stop - i));
      const float* a = packed_a + i * words;
      const float* b = packed_b + j * words;
      float* target =
          direct ? data_as<float>(g.c) + (block.row + i) * g.c.strides[0] + block.column + j
                 : sums + i * ld + j;
      if (direct || !last || !first) {
        multiply_panels<kPaired<T>>(words, a, b, target, direct ? g.c.strides[0] : ld, rows,
                                    columns, direct ? (!first || g.beta != 0.0f) : !first);
        if (direct || !last) continue;
        finish_tile<T, Out>(g, target, ld, block.row + i, block.column + j, rows, columns);
      } else {  // the whole of k in one block: the tile never leaves the first-level cache
        multiply_panels<kPaired<T>>(words, a, b, tile, kPanelCols, rows, columns, false);
        finish_tile<T, Out>(g, tile, kPanelCols, block.row + i, block.column + j, rows, columns);
      }
    }
  });
}

template <typename T, typename Out>
static void blocked_product(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const int64_t depth_block = kGemmDepthBlock * (kPaired<T> ? 2 : 1);
  const int64_t row_block = smaller(m, kGemmRowBlock);
  const int64_t column_block = smaller(n, kGemmColumnBlock);
  const int64_t words = packed_depth<T>(smaller(k, depth_block));
  float* packed_a = static_cast<float*>(g.workspace);
  float* packed_b = packed_a + blocks(blocks(row_block, kPanelRows) * kPanelRows * words, 16) * 16;
  float* sums = packed_b + blocks(blocks(column_block, kPanelCols) * kPanelCols * words, 16) * 16;
  // A plain float32 product accumulates in C itself.
  const bool direct = sizeof(Out) == 4 && g.alpha == 1.0f && (g.beta == 0.0f || g.beta == 1.0f) &&
                      g.bias.data == nullptr && g.residual.data == nullptr &&
                      g.preactivation.data == nullptr && g.activation == Activation::none;
  for (int64_t column = 0; column < n; column += column_block) {
    for (int64_t row = 0; row < m; row += row_block) {
      for (int64_t start = 0; start < k; start += depth_block) {
        const Block block = {row,    smaller(row_block, m - row),
                             column, smaller(column_block, n - column),
                             start,  smaller(depth_block, k - start)};
        pack_block<T>(g, block, packed_a, packed_b);
        multiply_block<T, Out>(g, block, packed_a, packed_b, sums, column_block, direct);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Entry

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
  const int64_t m = g.c.shape[0];
  if (m == 0 || g.c.shape[1] == 0) return;
  if (g.a.shape[1] == 0) return empty_product<T, Out>(g);
  if (m <= kGemmCpuFewRows && g.a.strides[1] == 1 && g.b.strides[0] == 1)
    return few_rows_dot<T, Out>(g);
  if (m <= kGemmCpuFewRows && g.b.strides[1] == 1) return few_rows_axpy<T, Out>(g);
  blocked_product<T, Out>(g);
}

template <typename T>
static void product_into(const Gemm& g) {
  if (g.c.dtype == DType::float32) return product<T, float>(g);
  product<T, T>(g);
}

}  // namespace

void gemm(const Gemm& g) {
  const int64_t count = gemm_count(g);
  dispatch_floating(g.a.dtype, [&](auto type) {
    for (int64_t i = 0; i < count; ++i) product_into<decltype(type)>(gemm_item(g, i));
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
