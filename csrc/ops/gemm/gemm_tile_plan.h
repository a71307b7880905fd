// How the CPU cuts a product of bfloat16 or float32 for the matrix unit: k by shape alone, so that
// the bits depend neither on the number of threads nor on the caches, which the rest follows.
// Shared by the kernel and its workspace.
#pragma once

#include <stdint.h>

#include "core/caches.h"
#include "core/dtype.h"

namespace pymodel {

// Blocks of C are computed one after the other. Up to this depth a block's sums stay in the tiles
// from the first k to the last; deeper products pass over them in memory.
constexpr int64_t kTileBlockRows = 2048;
constexpr int64_t kTileBlockColumns = 2048;
constexpr int64_t kTileBlockDepth = 4096;

// Rows of a task. The part of B that it multiplies them with takes three eighths of a second-level
// cache, and A passes through the rest.
constexpr int64_t kTileTaskRows = 512;
constexpr int64_t kTileTasks = 16;  // no fewer, if it can be helped, so that threads end together

struct GemmTilePlan {
  int64_t rows, columns, depth;     // of a block of C
  int64_t task_rows, task_columns;  // of a task; multiples of 32
  // One task takes all rows of a block: it packs its columns of B itself, into scratch memory of
  // its thread, where they stay in its cache.
  bool own_strips;
  // Bytes of a panel of 32 rows or columns, of all panels of a block's rows, of B's panels of one
  // strip or of the block, and of the sums.
  int64_t panel_bytes, row_bytes, column_bytes, sum_bytes;
};

// The smallest multiple of 32 that holds `count`.
static inline int64_t tile_round(int64_t count) { return (count + 31) / 32 * 32; }

static inline int64_t tile_divide(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Equal parts of at most `most`, a multiple of 32.
static inline int64_t tile_part(int64_t count, int64_t most) {
  return tile_round(tile_divide(count, tile_divide(count, most)));
}

static inline GemmTilePlan gemm_bfloat16_tile_plan(int64_t m, int64_t n, int64_t k) {
  GemmTilePlan plan;
  plan.rows = tile_part(m, kTileBlockRows);
  plan.depth = tile_part(k, kTileBlockDepth);
  plan.task_rows = tile_part(plan.rows, kTileTaskRows);
  plan.own_strips = m <= kTileTaskRows;
  // With strips packed by their tasks, only the sums bound a block's columns.
  const bool unbound = plan.own_strips && k <= plan.depth;
  plan.columns = unbound ? tile_round(n) : tile_part(n, kTileBlockColumns);
  const int64_t row_tasks = tile_divide(plan.rows, plan.task_rows);
  const int64_t cached = second_level_cache() * 3 / 8 / (2 * plan.depth);
  const int64_t spread = tile_divide(plan.columns * row_tasks, kTileTasks);
  const int64_t widest = cached < spread ? cached : spread;
  plan.task_columns = tile_part(plan.columns, widest < 64 ? 64 : tile_round(widest));
  plan.panel_bytes = 32 * 2 * plan.depth;
  return plan;
}

// float32 in three parts (cpu/tile_split.h). k is cut shorter, since sums begin anew there and are
// the nearer to the truth. Three parts are 1.5 times as large as what they are made of and had
// better not leave the cache, so that tasks pack their own columns where there are enough of those;
// else all share what is packed, and rows make up the tasks.
static inline GemmTilePlan gemm_float_tile_plan(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kDepth = 1024, kLeastRows = 64, kLeastColumns = 64, kMostColumns = 256;
  GemmTilePlan plan;
  plan.rows = tile_part(m, kTileBlockRows);
  plan.depth = tile_part(k, kDepth);
  plan.columns = k <= plan.depth ? tile_round(n) : tile_part(n, kTileBlockColumns);
  const int64_t cached = second_level_cache() * 3 / 8 / (6 * plan.depth) / 32 * 32;
  const int64_t widest = cached < kMostColumns ? cached : kMostColumns;
  plan.task_columns = tile_part(plan.columns, widest < kLeastColumns ? kLeastColumns : widest);
  const int64_t column_tasks = tile_divide(plan.columns, plan.task_columns);
  plan.own_strips = column_tasks >= kTileTasks;
  const int64_t spread = tile_divide(plan.rows, tile_divide(kTileTasks, column_tasks));
  plan.task_rows = tile_part(plan.rows, spread < kLeastRows ? kLeastRows : spread);
  plan.panel_bytes = 32 * 6 * plan.depth + 64;
  return plan;
}

static inline GemmTilePlan gemm_tile_plan_cpu(DType dtype, int64_t m, int64_t n, int64_t k) {
  GemmTilePlan plan =
      dtype == DType::float32 ? gemm_float_tile_plan(m, n, k) : gemm_bfloat16_tile_plan(m, n, k);
  plan.row_bytes = plan.rows / 32 * plan.panel_bytes;
  plan.column_bytes = (plan.own_strips ? plan.task_columns : plan.columns) / 32 * plan.panel_bytes;
  plan.sum_bytes = k > plan.depth ? 4 * plan.rows * plan.columns : 0;
  return plan;
}

// Bytes of scratch memory for `threads` threads, a multiple of 64.
static inline int64_t gemm_tile_workspace(DType dtype, int64_t m, int64_t n, int64_t k,
                                          int64_t threads) {
  if (m == 0 || n == 0 || k == 0) return 0;
  const GemmTilePlan plan = gemm_tile_plan_cpu(dtype, m, n, k);
  return plan.row_bytes + (plan.own_strips ? threads : 1) * plan.column_bytes + plan.sum_bytes;
}

}  // namespace pymodel
