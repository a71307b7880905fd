// bfloat16 gemm on the matrix unit (cpu/tile_unit.h). A and B are packed into panels of 32 rows or
// columns, A only where it cannot be read in place; a task multiplies some hundred rows with a
// strip of columns that stays in its second-level cache, 32 x 32 sums at a time, and finishes each
// such tile of C while it is in the first-level cache.
#include "ops/gemm/gemm_tiles_cpu.h"

#ifdef PYMODEL_ISA_avx512_bf16

#include "cpu/parallel.h"
#include "cpu/tile_panel.h"
#include "ops/gemm/gemm_epilogue_cpu.h"
#include "ops/gemm/gemm_tile_plan.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// A block of C and a range of k, with the scratch memory that holds their panels and sums.
struct TileBlock {
  const Gemm& g;
  const GemmTilePlan& plan;
  int64_t row, rows, column, columns, k, depth;
  bool in_place;        // whether A's whole panels are read where they lie
  char* packed_a;       // (rows / 32 panels, steps, 2, 16, 64 bytes)
  char* packed_b;       // (columns / 32 panels, ...), of the block or of a thread's strip
  float* partial_sums;  // (rows / 32, columns / 32, 32, 32), or null where all of k is one range
};

// Hands out the tasks of a block, row by row: one at a time, so that threads end together, except
// where k is so short that reading A and writing C outweighs the products. Then every thread has
// one run of rows, which it finds in its own cache if the operation before was cut in the same way.
template <typename Body>
PYMODEL_INLINE void run_tasks(const TileBlock& block, int64_t tasks, int64_t cost,
                              const Body& body) {
  constexpr int64_t kShort = 256;
  if (block.depth <= kShort) return parallel_for(tasks, cost, body);
  parallel_for_dynamic(tasks, cost, body);
}

// ---------------------------------------------------------------------------------------------
// Packing

// Element (row, k) of A onwards, a line a row.
PYMODEL_INLINE TileSource rows_of_a(const TileBlock& block, int64_t row) {
  const TensorView& a = block.g.a;
  return {data_as<bfloat16>(a) + (block.row + row) * a.strides[0] + block.k * a.strides[1],
          a.strides[0], a.strides[1]};
}

// Element (k, column) of B onwards, a line a column.
PYMODEL_INLINE TileSource columns_of_b(const TileBlock& block, int64_t column) {
  const TensorView& b = block.g.b;
  return {data_as<bfloat16>(b) + (block.column + column) * b.strides[1] + block.k * b.strides[0],
          b.strides[1], b.strides[0]};
}

// Tiles are read in place at full speed where no row of them crosses a cache line.
static bool rows_lie_in_lines(const TensorView& a) {
  return a.strides[1] == 1 && a.strides[0] % kTileDepth == 0 && a.shape[1] % kTileDepth == 0 &&
         reinterpret_cast<uintptr_t>(a.data) % kTileRowBytes == 0;
}

// Packs what the tasks share: A, and B where strips are not packed by the tasks themselves.
static void pack_block(const TileBlock& block) {
  constexpr int64_t kGroup = 2 * kTilePanelLines;
  const int64_t whole = block.in_place ? block.rows / kTilePanelLines * kTilePanelLines : 0;
  const int64_t a_tasks = blocks(block.rows - whole, kGroup);
  const int64_t b_tasks = block.plan.own_strips ? 0 : blocks(block.columns, kGroup);
  const int64_t panel = tile_steps(block.depth) * kTileStepBytes;
  const int64_t lines = (block.rows - whole) + (b_tasks > 0 ? block.columns : 0);
  run_tasks(block, a_tasks + b_tasks, lines * block.depth, [&](int64_t task) {
    if (task < b_tasks) {
      const int64_t first = task * kGroup;
      pack_tile_panels<true>(columns_of_b(block, first), smaller(kGroup, block.columns - first),
                             block.depth, block.packed_b + first / kTilePanelLines * panel);
    } else {
      const int64_t first = whole + (task - b_tasks) * kGroup;
      pack_tile_panels<false>(rows_of_a(block, first), smaller(kGroup, block.rows - first),
                              block.depth, block.packed_a + first / kTilePanelLines * panel);
    }
  });
}

// ---------------------------------------------------------------------------------------------
// Products

PYMODEL_INLINE TileRowPanel row_panel(const TileBlock& block, int64_t row) {
  if (block.in_place && row + kTilePanelLines <= block.rows) {
    return rows_in_place(rows_of_a(block, row).at, block.g.a.strides[0]);
  }
  return packed_rows(block.packed_a +
                     row / kTilePanelLines * tile_steps(block.depth) * kTileStepBytes);
}

// Rows [row, row_end) of the block times columns [column, column_end), whose panels `strip` holds.
template <typename Out>
static void multiply_strip(const TileBlock& block, int64_t row, int64_t row_end, int64_t column,
                           int64_t column_end, const char* strip) {
  const int64_t steps = tile_steps(block.depth);
  const bool first = block.k == 0, last = block.k + block.depth == block.g.a.shape[1];
  const TileUnit unit;
  alignas(64) float tile[kTilePanelLines * kTilePanelLines];
  for (int64_t i = row; i < row_end; i += kTilePanelLines) {
    const TileRowPanel a = row_panel(block, i);
    const int64_t rows = smaller(kTilePanelLines, row_end - i);
    for (int64_t j = column; j < column_end; j += kTilePanelLines) {
      const int64_t columns = smaller(kTilePanelLines, column_end - j);
      const char* b = strip + (j - column) / kTilePanelLines * steps * kTileStepBytes;
      float* sums = tile;
      if (block.partial_sums != nullptr) {
        sums = block.partial_sums + i * block.plan.columns + j * kTilePanelLines;
      }
      if (last) {
        prefetch_tile_of_c<bfloat16, Out>(block.g, block.row + i, block.column + j, rows, columns);
      }
      multiply_tile_panels(a, b, steps, rows, columns, sums, !first);
      if (!last) continue;
      finish_tile<bfloat16, Out>(block.g, sums, kTilePanelLines, block.row + i, block.column + j,
                                 rows, columns);
    }
  }
}

template <typename Out>
static void multiply_block(const TileBlock& block) {
  const GemmTilePlan& plan = block.plan;
  const int64_t row_tasks = blocks(block.rows, plan.task_rows);
  const int64_t column_tasks = blocks(block.columns, plan.task_columns);
  const int64_t cost = block.rows * block.columns * block.depth;
  run_tasks(block, row_tasks * column_tasks, cost, [&](int64_t task) {
    const int64_t row = task / column_tasks * plan.task_rows;
    const int64_t column = task % column_tasks * plan.task_columns;
    const int64_t row_end = smaller(row + plan.task_rows, block.rows);
    const int64_t column_end = smaller(column + plan.task_columns, block.columns);
    char* strip =
        block.packed_b + column / kTilePanelLines * tile_steps(block.depth) * kTileStepBytes;
    if (plan.own_strips) {
      strip = block.packed_b + omp_get_thread_num() * plan.column_bytes;
      pack_tile_panels<true>(columns_of_b(block, column), column_end - column, block.depth, strip);
    }
    multiply_strip<Out>(block, row, row_end, column, column_end, strip);
  });
}

// ---------------------------------------------------------------------------------------------
// Entry

template <typename Out>
static void product_in_tiles(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const GemmTilePlan plan = gemm_tile_plan_cpu(m, n, k);
  float* const sums = static_cast<float*>(g.workspace);
  char* const packed_a = static_cast<char*>(g.workspace) + plan.sum_bytes;
  char* const packed_b = packed_a + plan.row_bytes;
  const bool in_place = rows_lie_in_lines(g.a);
  for (int64_t column = 0; column < n; column += plan.columns) {
    for (int64_t row = 0; row < m; row += plan.rows) {
      for (int64_t start = 0; start < k; start += plan.depth) {
        const TileBlock block = {g,        plan,
                                 row,      smaller(plan.rows, m - row),
                                 column,   smaller(plan.columns, n - column),
                                 start,    smaller(plan.depth, k - start),
                                 in_place, packed_a,
                                 packed_b, plan.sum_bytes > 0 ? sums : nullptr};
        pack_block(block);
        multiply_block<Out>(block);
      }
    }
  }
}

}  // namespace

bool gemm_in_tiles(const Gemm& g) {
  if (g.a.dtype != DType::bfloat16 || !tile_unit_on()) return false;
  if (g.c.dtype == DType::float32) {
    product_in_tiles<float>(g);
  } else {
    product_in_tiles<bfloat16>(g);
  }
  return true;
}

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
