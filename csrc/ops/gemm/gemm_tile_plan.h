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
  // its thread, where they stay in its cache. Or all columns, and packs its rows of A, panel by
  // panel.
  bool own_strips, own_rows;
  // Bytes of a panel of 32 rows or columns, of A's panels (two with own_rows, else of the block),
  // of B's panels of one strip or of the block, and of the sums.
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
  plan.own_rows = false;
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

// How deep the products of float32 go before their sums begin anew, which keeps those near to the
// truth; not so deep that the parts of n columns take more than a mebibyte, if that leaves enough.
// The same for any m, as kept panels serve products of any.
static inline int64_t gemm_float_depth(int64_t n, int64_t k) {
  constexpr int64_t kDeepest = 1024, kLeast = 256, kBytes = int64_t{1} << 20;
  const int64_t fitting = kBytes / (6 * tile_round(n)) / 32 * 32;
  const bool fits = fitting >= kLeast && fitting < kDeepest;
  return tile_part(k, fits ? fitting : kDeepest);
}

// float32 in three parts (cpu/tile_split.h). Three parts are 1.5 times as large as what they are
// made of and had better not leave the cache: tasks pack their own rows where all columns fit into
// the cache, their own columns where there are enough of those or few rows, else all share what is
// packed.
static inline GemmTilePlan gemm_float_tile_plan(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kFewRows = 256, kLeastRows = 64, kLeastColumns = 64, kMostColumns = 256;
  GemmTilePlan plan;
  plan.rows = tile_part(m, kTileBlockRows);
  plan.depth = gemm_float_depth(n, k);
  plan.columns = k <= plan.depth ? tile_round(n) : tile_part(n, kTileBlockColumns);
  plan.panel_bytes = 32 * 6 * plan.depth + 64;
  plan.own_rows = m > kFewRows && plan.columns / 32 * plan.panel_bytes <= second_level_cache() / 2;
  if (plan.own_rows) {
    plan.own_strips = false;
    plan.task_columns = plan.columns;
    plan.task_rows = tile_part(plan.rows, tile_round(tile_divide(plan.rows, kTileTasks)));
    return plan;
  }
  const int64_t cached = second_level_cache() * 3 / 8 / plan.panel_bytes * 32;
  const int64_t most = cached < kLeastColumns ? kLeastColumns : cached;
  const int64_t spread = tile_round(tile_divide(plan.columns, kTileTasks));
  const bool few_rows = m <= kFewRows;
  const int64_t widest = few_rows && spread < most ? spread : most;
  plan.task_columns = tile_part(plan.columns, widest < kMostColumns ? widest : kMostColumns);
  const int64_t column_tasks = tile_divide(plan.columns, plan.task_columns);
  plan.own_strips = few_rows || column_tasks >= kTileTasks;
  const int64_t row_tasks = plan.own_strips ? 1 : tile_divide(kTileTasks, column_tasks);
  const int64_t share = tile_round(tile_divide(plan.rows, row_tasks));
  plan.task_rows = tile_part(plan.rows, share < kLeastRows ? kLeastRows : share);
  return plan;
}

static inline GemmTilePlan gemm_tile_plan_cpu(DType dtype, int64_t m, int64_t n, int64_t k) {
  GemmTilePlan plan =
      dtype == DType::float32 ? gemm_float_tile_plan(m, n, k) : gemm_bfloat16_tile_plan(m, n, k);
  plan.row_bytes = (plan.own_rows ? 2 : plan.rows / 32) * plan.panel_bytes;
  plan.column_bytes = (plan.own_strips ? plan.task_columns : plan.columns) / 32 * plan.panel_bytes;
  plan.sum_bytes = k > plan.depth ? 4 * plan.rows * plan.columns : 0;
  return plan;
}

// Bytes of scratch memory for `threads` threads, a multiple of 64.
static inline int64_t gemm_tile_workspace(DType dtype, int64_t m, int64_t n, int64_t k,
                                          int64_t threads) {
  if (m == 0 || n == 0 || k == 0) return 0;
  const GemmTilePlan plan = gemm_tile_plan_cpu(dtype, m, n, k);
  return plan.sum_bytes + (plan.own_rows ? threads : 1) * plan.row_bytes +
         (plan.own_strips ? threads : 1) * plan.column_bytes;
}

// Whether splitting the elements of a float32 product pays: those of A and B have to be used often
// enough.
static inline bool gemm_splits(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kLeastExtent = 64, kLeastProducts = int64_t{1} << 24;
  return m >= kLeastExtent && n >= kLeastExtent && k >= kLeastExtent && m * n * k >= kLeastProducts;
}

// Bytes of a panel of 32 columns and `depth` along k.
static inline int64_t gemm_tile_panel_bytes(DType dtype, int64_t depth) {
  const int64_t bytes = 32 * 2 * tile_round(depth);
  return dtype == DType::float32 ? 3 * bytes + 64 : bytes;
}

// Where the panels of B begin that hold k from `start` on, when all of B is kept packed: ranges of
// k one after the other. With start = k, what all take.
static inline int64_t gemm_kept_tiles(DType dtype, int64_t n, int64_t k, int64_t start) {
  const int64_t depth = gemm_tile_plan_cpu(dtype, 1, n, k).depth, panels = tile_divide(n, 32);
  const int64_t whole = panels * gemm_tile_panel_bytes(dtype, depth);
  const int64_t rest = start % depth;
  return start / depth * whole + (rest == 0 ? 0 : panels * gemm_tile_panel_bytes(dtype, rest));
}

}  // namespace pymodel
