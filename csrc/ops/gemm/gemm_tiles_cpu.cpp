// gemm on the matrix unit (cpu/tile_unit.h): bfloat16, and float32 in three parts each
// (cpu/tile_split.h). A and B are packed into panels of 32 rows or columns, an A of bfloat16 only
// where it cannot be read in place; a task multiplies some hundred rows with a strip of columns
// that stays in its second-level cache, 32 x 32 sums at a time, and finishes each such tile of C on
// the side of the next one's products.
#include "ops/gemm/gemm_tiles_cpu.h"

#ifdef PYMODEL_ISA_avx512_bf16

#include "cpu/parallel.h"
#include "cpu/tile_panel.h"
#include "cpu/tile_split.h"
#include "ops/gemm/gemm_tile_finisher_cpu.h"
#include "ops/gemm/gemm_tile_plan.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// A block of C and a range of k, with the scratch memory that holds their panels and sums.
struct TileBlock {
  const Gemm& g;
  const GemmTilePlan& plan;
  int64_t row, rows, column, columns, k, depth;
  bool in_place;        // whether A's whole panels are read where they lie
  bool b_is_packed;     // by the block before, or in the form that is kept
  char* packed_a;       // (rows / 32 panels, panel_bytes<T>(depth)), of the block or one a thread
  char* packed_b;       // (columns / 32 panels, ...), of the block or of a thread's strip
  float* partial_sums;  // (rows / 32, columns / 32, 32, 32), or null where all of k is one range
};

template <typename T>
PYMODEL_INLINE int64_t panel_bytes(int64_t depth) {
  return sizeof(T) == 4 ? split_panel_bytes(depth) : tile_steps(depth) * kTileStepBytes;
}

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
template <typename T>
PYMODEL_INLINE TileSource<T> rows_of_a(const TileBlock& block, int64_t row) {
  const TensorView& a = block.g.a;
  return {data_as<T>(a) + (block.row + row) * a.strides[0] + block.k * a.strides[1], a.strides[0],
          a.strides[1]};
}

// Element (k, column) of B onwards, a line a column.
template <typename T>
PYMODEL_INLINE TileSource<T> columns_of_b(const TileBlock& block, int64_t column) {
  const TensorView& b = block.g.b;
  return {data_as<T>(b) + (block.column + column) * b.strides[1] + block.k * b.strides[0],
          b.strides[1], b.strides[0]};
}

// Tiles of bfloat16 are read in place at full speed where no row of them crosses a cache line.
static bool rows_lie_in_lines(const TensorView& a) {
  return a.dtype == DType::bfloat16 && a.strides[1] == 1 && a.strides[0] % kTileDepth == 0 &&
         a.shape[1] % kTileDepth == 0 && reinterpret_cast<uintptr_t>(a.data) % kTileRowBytes == 0;
}

// Packs what the tasks share: A, and B where strips are not packed by the tasks themselves.
template <typename T>
static void pack_block(const TileBlock& block) {
  constexpr int64_t kGroup = 2 * kTilePanelLines;
  const int64_t whole = block.in_place ? block.rows / kTilePanelLines * kTilePanelLines : 0;
  const int64_t rows = block.plan.own_rows ? 0 : block.rows - whole;
  const int64_t a_tasks = blocks(rows, kGroup);
  const bool packs_b = !block.plan.own_strips && !block.b_is_packed;
  const int64_t b_tasks = packs_b ? blocks(block.columns, kGroup) : 0;
  const int64_t panel = panel_bytes<T>(block.depth);
  const int64_t lines = rows + (packs_b ? block.columns : 0);
  run_tasks(block, a_tasks + b_tasks, lines * block.depth, [&](int64_t task) {
    if (task < b_tasks) {
      const int64_t first = task * kGroup;
      pack_tile_panels<true>(columns_of_b<T>(block, first), smaller(kGroup, block.columns - first),
                             block.depth, block.packed_b + first / kTilePanelLines * panel);
    } else {
      const int64_t first = whole + (task - b_tasks) * kGroup;
      pack_tile_panels<false>(rows_of_a<T>(block, first), smaller(kGroup, whole + rows - first),
                              block.depth, block.packed_a + first / kTilePanelLines * panel);
    }
  });
}

// ---------------------------------------------------------------------------------------------
// Products

PYMODEL_INLINE TileRowPanel row_panel(const TileBlock& block, int64_t row) {
  if (block.in_place && row + kTilePanelLines <= block.rows) {
    return rows_in_place(rows_of_a<bfloat16>(block, row).at, block.g.a.strides[0]);
  }
  return packed_rows(block.packed_a + row / kTilePanelLines * panel_bytes<bfloat16>(block.depth));
}

PYMODEL_INLINE bool is_last_range(const TileBlock& block) {
  return block.k + block.depth == block.g.a.shape[1];
}

// Whether sums are added to those of the ranges of k before when all are there: float32 begins anew
// with each range, which keeps the rounding error low.
template <typename T>
PYMODEL_INLINE bool adds_later(const TileBlock& block) {
  return sizeof(T) == sizeof(float) && block.k > 0;
}

// Up to 32 rows and columns of a block.
struct TileOfBlock {
  int64_t row, rows, column, columns;
};

// sums (32, 32) = or += a panel of A, if it is packed, times one of B.
template <typename Aside, typename Finisher>
static void multiply_panels(const TileBlock& block, const TileOfBlock& at, bfloat16, const char*,
                            const char* b, float* sums, bool accumulate, Aside&,
                            Finisher& finisher) {
  multiply_tile_panels(row_panel(block, at.row), b, tile_steps(block.depth), at.rows, at.columns,
                       sums, accumulate, finisher);
}

// sums (32, 32) = a product, one multiply-add after the other: for elements that cannot be split.
static void multiply_plainly(const TileBlock& block, const TileOfBlock& at, float* sums) {
  const TileSource<float> a = rows_of_a<float>(block, at.row);
  const TileSource<float> b = columns_of_b<float>(block, at.column);
  memset(sums, 0, sizeof(float) * kTilePanelLines * kTilePanelLines);
  for (int64_t k = 0; k < block.depth; ++k) {
    float row_of_b[kTilePanelLines] = {};
    for (int64_t j = 0; j < at.columns; ++j) row_of_b[j] = *b.from(j, k).at;
    for (int64_t i = 0; i < at.rows; ++i) {
      const Vec factor = broadcast(*a.from(i, k).at);
      for (int j = 0; j < kTilePanelLines; j += kLanes) {
        float* const sum = sums + i * kTilePanelLines + j;
        store(sum, fma(factor, load(row_of_b + j), load(sum)));
      }
    }
  }
}

// The same of float32, which never adds.
template <typename Aside, typename Finisher>
static void multiply_panels(const TileBlock& block, const TileOfBlock& at, float, const char* a,
                            const char* b, float* sums, bool, Aside& aside, Finisher& finisher) {
  if (splits_in_range(a, b, block.depth)) {
    multiply_split_panels(a, b, tile_steps(block.depth), at.rows, at.columns, sums, aside,
                          finisher);
  } else {
    multiply_plainly(block, at, sums);
  }
}

// Up to 32 rows of the block, whose panel is `a`, times columns [column, column_end), whose panels
// `strip` holds; start_panel(panel) gives what there is to do on the side of a panel of columns
// besides finishing the tile before.
template <typename T, typename Out, typename Start>
static void multiply_row_panel(const TileBlock& block, int64_t row, int64_t rows, const char* a,
                               int64_t column, int64_t column_end, const char* strip,
                               TileFinisher<T, Out>& finisher, const Start& start_panel) {
  const int64_t panels = tile_steps(column_end - column), steps = tile_steps(block.depth);
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t j = column + panel * kTilePanelLines;
    const TileOfBlock at = {row, rows, j, smaller(kTilePanelLines, column_end - j)};
    float* partial = nullptr;
    if (block.partial_sums != nullptr) {
      partial = block.partial_sums + row * block.plan.columns + j * kTilePanelLines;
    }
    const bool sums_in_place = partial != nullptr && !adds_later<T>(block);
    float* const sums = sums_in_place ? partial : finisher.room();
    // Of a range that is not the last, sums in place are all that is wanted.
    const int64_t unfinished = sums_in_place && !is_last_range(block) ? 0 : rows;
    finisher.begin(block.row + row, block.column + j, unfinished, at.columns, sums,
                   sums_in_place ? nullptr : partial, steps);
    auto&& aside = start_panel(panel);
    multiply_panels(block, at, T{}, a, strip + panel * panel_bytes<T>(block.depth), sums,
                    block.k > 0, aside, finisher);
    finisher.end();
  }
}

// Rows [row, row_end) of the block times those columns. The next panel of A comes from afar: each
// product with this one asks for a part.
template <typename T, typename Out>
static void multiply_strip(const TileBlock& block, int64_t row, int64_t row_end, int64_t column,
                           int64_t column_end, const char* strip) {
  const TileUnit unit;
  const int64_t panels = tile_steps(column_end - column), steps = tile_steps(block.depth);
  const int64_t lines = blocks(kSplitStepBytes / kTileRowBytes, panels);
  TileFinisher<T, Out> finisher(block.g, is_last_range(block), adds_later<T>(block));
  for (int64_t i = row; i < row_end; i += kTilePanelLines) {
    const char* a = block.packed_a + i / kTilePanelLines * panel_bytes<T>(block.depth);
    const char* next = a + panel_bytes<T>(block.depth);
    const bool is_last = i + kTilePanelLines >= row_end;
    multiply_row_panel<T, Out>(
        block, i, smaller(kTilePanelLines, row_end - i), a, column, column_end, strip, finisher,
        [&](int64_t panel) {
          return is_last ? TileAhead{nullptr, 0}
                         : TileAhead{next + panel * lines * steps * kTileRowBytes, lines};
        });
  }
  finisher.flush();
}

// The same where tasks pack their rows: `own` has room for two panels, the one that is multiplied
// and the next one, which is packed meanwhile.
template <typename T, typename Out>
static void multiply_own_rows(const TileBlock& block, int64_t row, int64_t row_end, char* own,
                              const char* strip) {
  const TileUnit unit;
  const int64_t calls = tile_steps(block.columns) * tile_steps(block.depth);
  TileFinisher<T, Out> finisher(block.g, is_last_range(block), adds_later<T>(block));
  const auto packer = [&](int64_t i, char* panel) {
    const int64_t rows = smaller(kTilePanelLines, row_end - i);
    return RowPacker(rows_of_a<T>(block, rows > 0 ? i : row), rows, block.depth, panel, calls);
  };
  char *panel = own, *other = own + panel_bytes<T>(block.depth);
  packer(row, panel).finish();
  for (int64_t i = row; i < row_end; i += kTilePanelLines) {
    RowPacker next = packer(i + kTilePanelLines, other);
    multiply_row_panel<T, Out>(block, i, smaller(kTilePanelLines, row_end - i), panel, 0,
                               block.columns, strip, finisher,
                               [&](int64_t) -> RowPacker& { return next; });
    next.finish();
    char* const multiplied = panel;
    panel = other;
    other = multiplied;
  }
  finisher.flush();
}

template <typename T, typename Out>
static void multiply_block(const TileBlock& block) {
  const GemmTilePlan& plan = block.plan;
  const int64_t row_tasks = blocks(block.rows, plan.task_rows);
  const int64_t column_tasks = blocks(block.columns, plan.task_columns);
  const int64_t cost = block.rows * block.columns * block.depth;
  const int level = omp_get_level();
  run_tasks(block, row_tasks * column_tasks, cost, [&](int64_t task) {
    const int64_t row = task % row_tasks * plan.task_rows;
    const int64_t column = task / row_tasks * plan.task_columns;
    const int64_t row_end = smaller(row + plan.task_rows, block.rows);
    const int64_t column_end = smaller(column + plan.task_columns, block.columns);
    // A single task runs in the caller's thread, whose number is that in a loop around this one.
    const int member = omp_get_level() > level ? omp_get_thread_num() : 0;
    char* strip = block.packed_b + column / kTilePanelLines * panel_bytes<T>(block.depth);
    if (plan.own_strips && !block.b_is_packed) {
      strip = block.packed_b + member * plan.column_bytes;
      pack_tile_panels<true>(columns_of_b<T>(block, column), column_end - column, block.depth,
                             strip);
    }
    if constexpr (sizeof(T) == 4) {
      char* const own = block.packed_a + member * plan.row_bytes;
      if (plan.own_rows) return multiply_own_rows<T, Out>(block, row, row_end, own, strip);
    }
    multiply_strip<T, Out>(block, row, row_end, column, column_end, strip);
  });
}

// ---------------------------------------------------------------------------------------------
// Entry

// Packs all of B into the form that is kept.
template <typename T>
static void keep_b(const Gemm& g, int64_t range) {
  constexpr int64_t kGroup = 4 * kTilePanelLines;
  const int64_t n = g.b.shape[1], k = g.b.shape[0], groups = blocks(n, kGroup);
  parallel_for(groups * blocks(k, range), n * k, [&](int64_t task) {
    const int64_t start = task / groups * range, column = task % groups * kGroup;
    const int64_t depth = smaller(range, k - start);
    const TileSource<T> all = {data_as<T>(g.b), g.b.strides[1], g.b.strides[0]};
    pack_tile_panels<true>(all.from(column, start), smaller(kGroup, n - column), depth,
                           static_cast<char*>(g.kept_b) + gemm_kept_tiles(g.b.dtype, n, k, start) +
                               column / kTilePanelLines * panel_bytes<T>(depth));
  });
}

template <typename T, typename Out>
static void product_in_tiles(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const GemmTilePlan plan = gemm_tile_plan_cpu(g.a.dtype, m, n, k);
  float* const sums = static_cast<float*>(g.workspace);
  // What every thread has for itself comes last.
  char* const packed = static_cast<char*>(g.workspace) + plan.sum_bytes;
  char* const packed_a = packed + (plan.own_rows ? plan.column_bytes : 0);
  char* const packed_b = packed + (plan.own_rows ? 0 : plan.row_bytes);
  const bool in_place = rows_lie_in_lines(g.a);
  char* const kept = static_cast<char*>(g.kept_b);
  if (kept != nullptr && !g.is_kept) keep_b<T>(g, plan.depth);
  for (int64_t column = 0; column < n; column += plan.columns) {
    for (int64_t row = 0; row < m; row += plan.rows) {
      for (int64_t start = 0; start < k; start += plan.depth) {
        const int64_t depth = smaller(plan.depth, k - start);
        const bool by_block_before = !plan.own_strips && row > 0 && k <= plan.depth;
        const bool b_is_packed = kept != nullptr || by_block_before;
        char* const b = kept == nullptr ? packed_b
                                        : kept + gemm_kept_tiles(g.a.dtype, n, k, start) +
                                              column / kTilePanelLines * panel_bytes<T>(depth);
        const TileBlock block = {g,
                                 plan,
                                 row,
                                 smaller(plan.rows, m - row),
                                 column,
                                 smaller(plan.columns, n - column),
                                 start,
                                 depth,
                                 in_place,
                                 b_is_packed,
                                 packed_a,
                                 b,
                                 plan.sum_bytes > 0 ? sums : nullptr};
        pack_block<T>(block);
        multiply_block<T, Out>(block);
      }
    }
  }
}

}  // namespace

bool gemm_in_tiles(const Gemm& g) {
  if (!tile_unit_on()) return false;
  if (g.a.dtype == DType::float32) {
    if (!gemm_splits(g.c.shape[0], g.c.shape[1], g.a.shape[1])) return false;
    product_in_tiles<float, float>(g);
    return true;
  }
  if (g.a.dtype != DType::bfloat16) return false;
  if (g.c.dtype == DType::float32) {
    product_in_tiles<bfloat16, float>(g);
  } else {
    product_in_tiles<bfloat16, bfloat16>(g);
  }
  return true;
}

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
