// Blocked product: A is packed in blocks that stay in the second-level cache, B in strips one panel
// wide, and every tile of C is the product of a panel of each (cpu/micro_gemm.h). A thread packs
// the strip it is about to use into memory of its own, where it is hot when the products begin.
// Of small products, what is used too few times to be worth packing is read in place.
#pragma once

#include "cpu/micro_gemm.h"
#include "cpu/parallel.h"
#include "cpu/team.h"
#include "ops/gemm/gemm_epilogue_cpu.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Words of k that one accumulator sums up before it is added to the tile of C: short chains keep
// the rounding error low.
constexpr int64_t kChainWords = 256;

// Up to so many columns, members of the team share out the rows and nothing else, and A may be read
// in place.
constexpr int64_t kFewColumns = 512;

// Products that take as long as one operation of cpu/parallel.h.
constexpr int64_t kProductsPerOperation = 8;

// A block of the product: rows and columns of C, and a range of k; how many strips are packed at a
// time.
struct Block {
  int64_t row, rows, column, columns, start, depth, strip_group;
};

// Where a tile's sums are kept from one block of k to the next.
struct Sums {
  float* data;  // (rows of a block, columns of a block); C itself in a plain float32 product
  int64_t ld;
  bool direct;
};

// A plain float32 product accumulates in C itself.
template <typename Out>
PYMODEL_INLINE bool accumulates_in_c(const Gemm& g) {
  return sizeof(Out) == 4 && g.alpha == 1.0f && (g.beta == 0.0f || g.beta == 1.0f) &&
         g.bias.data == nullptr && g.residual.data == nullptr && g.preactivation.data == nullptr &&
         g.activation == Activation::none;
}

// c (rows, columns) = or += the product of two whole panels, in chains of bounded length.
template <bool paired, bool packed>
PYMODEL_INLINE void multiply_chains(int64_t words, Panel a, Panel b, float* c, int64_t ldc,
                                    int rows, int columns, bool accumulate) {
  for (int64_t k = 0; k < words; k += kChainWords) {
    multiply_panels<paired, packed>(smaller(kChainWords, words - k), a.from(k), b.from(k), c, ldc,
                                    rows, columns, accumulate || k > 0);
  }
}

// ---------------------------------------------------------------------------------------------
// What is packed

// Whether A is read in place. Packed panels are read a little faster, and packing pays where there
// are many strips of B for each panel, or where every word of k is in a page of its own.
template <typename T>
PYMODEL_INLINE bool rows_in_place(const Gemm& g) {
  constexpr int64_t kFewElements = 128 * 128;
  if (sizeof(T) != sizeof(float)) return false;
  if (g.a.shape[0] * g.a.shape[1] <= kFewElements) return true;
  return g.a.strides[1] == 1 && g.c.shape[1] <= kFewColumns;
}

// Whether a strip of B of so many columns is: where few panels of A follow each other on it, and
// the product, which reads whole vectors, stays inside it.
template <typename T>
PYMODEL_INLINE bool strip_in_place(const Gemm& g, int64_t columns) {
  constexpr int64_t kFewRows = 64;
  return sizeof(T) == sizeof(float) && g.b.strides[1] == 1 && columns % kLanes == 0 &&
         g.c.shape[0] <= kFewRows;
}

// Panels of rows, `step` apart.
struct RowPanels {
  Panel first;
  int64_t step;

  Panel at(int64_t row) const {
    return {first.at + row / kPanelRows * step, first.line, first.word};
  }
};

template <typename T>
PYMODEL_INLINE RowPanels row_panels(const Gemm& g, const Block& block, const float* packed) {
  if (!rows_in_place<T>(g)) {
    return {packed_panel(packed, kPanelRows), packed_depth<T>(block.depth) * kPanelRows};
  }
  const int64_t line = g.a.strides[0], word = g.a.strides[1];
  const float* a = data_as<float>(g.a) + block.row * line + block.start * word;
  return {{a, line, word}, line * kPanelRows};
}

template <typename T>
static void pack_rows(const Gemm& g, const Block& block, const Team& team, float* packed) {
  // As many panels at a time as fill a few lines of the cache, which matters where rows lie side
  // by side.
  constexpr int64_t kGroup = 64;
  const T* a = data_as<T>(g.a) + block.row * g.a.strides[0] + block.start * g.a.strides[1];
  const int64_t groups = blocks(block.rows, kGroup);
  for (int64_t group = team.begin(groups); group < team.end(groups); ++group) {
    const int64_t row = group * kGroup;
    pack_panels<kPanelRows>(a + row * g.a.strides[0], g.a.strides[0], g.a.strides[1],
                            smaller(kGroup, block.rows - row), block.depth,
                            packed + row * packed_depth<T>(block.depth));
  }
}

// The strip of the kept form (gemm_kept_bytes) that begins at `column` and holds k from `start` on.
template <typename T>
PYMODEL_INLINE float* kept_strip(const Gemm& g, int64_t start, int64_t depth, int64_t column) {
  const int64_t width = blocks(g.b.shape[1], kPanelCols) * kPanelCols;
  return static_cast<float*>(g.kept_b) + packed_depth<T>(start) * width +
         column * packed_depth<T>(depth);
}

// Packs all of B into that form, k in ranges of `range`.
template <typename T>
static void keep_b(const Gemm& g, int64_t range) {
  const int64_t n = g.b.shape[1], k = g.b.shape[0], strips = blocks(n, kPanelCols);
  parallel_for(strips * blocks(k, range), n * k, [&](int64_t task) {
    const int64_t start = task / strips * range, column = task % strips * kPanelCols;
    const int64_t depth = smaller(range, k - start);
    const T* b = data_as<T>(g.b) + start * g.b.strides[0] + column * g.b.strides[1];
    pack_panels<kPanelCols>(b, g.b.strides[1], g.b.strides[0], smaller(kPanelCols, n - column),
                            depth, kept_strip<T>(g, start, depth, column));
  });
}

// ---------------------------------------------------------------------------------------------
// Products

// Products of the rows [row, stop) of a block with a strip of columns.
template <typename T, typename Out, bool packed>
static void multiply_strip(const Gemm& g, const Block& block, int64_t row, int64_t stop,
                           int64_t column, const RowPanels& panels, Panel strip, const Sums& sums) {
  const int64_t words = packed_depth<T>(block.depth);
  const bool first = block.start == 0, last = block.start + block.depth == g.a.shape[1];
  const int columns = static_cast<int>(smaller(kPanelCols, block.columns - column));
  for (int64_t i = row; i < stop; i += kPanelRows) {
    const int rows = static_cast<int>(smaller(kPanelRows, stop - i));
    const Panel a = panels.at(i);
    if (sums.direct) {
      multiply_chains<kPaired<T>, packed>(words, a, strip, sums.data + i * sums.ld + column,
                                          sums.ld, rows, columns, !first || g.beta != 0.0f);
      continue;
    }
    alignas(64) float tile[kPanelRows * kPanelCols];
    const bool whole = first && last;  // the tile never leaves the first-level cache
    float* target = whole ? tile : sums.data + i * sums.ld + column;
    const int64_t ld = whole ? kPanelCols : sums.ld;
    multiply_chains<kPaired<T>, packed>(words, a, strip, target, ld, rows, columns, !first);
    if (last) {
      finish_tile<T, Out>(g, target, ld, block.row + i, block.column + column, rows, columns);
    }
  }
}

// One member's share of a block: a run of tasks, each a strip times some of the rows. Strips are
// packed when the run reaches them, several at a time: where rows of B are dense, each is then met
// in a longer run of memory.
template <typename T, typename Out>
static void multiply_block(const Gemm& g, const Block& block, const Team& team,
                           const float* packed_a, float* strips, const Sums& sums) {
  constexpr int64_t kTaskRows = 64;
  const T* b = data_as<T>(g.b) + block.start * g.b.strides[0] + block.column * g.b.strides[1];
  const int64_t row_tasks = blocks(block.rows, kTaskRows);
  const int64_t tasks = row_tasks * blocks(block.columns, kPanelCols);
  const int64_t strips_end = blocks(team.end(tasks), row_tasks) * kPanelCols;
  const int64_t run_end = smaller(block.columns, strips_end);
  const RowPanels panels = row_panels<T>(g, block, packed_a);
  int64_t first = 0, stop = 0;  // the columns that are packed
  for (int64_t task = team.begin(tasks); task < team.end(tasks); ++task) {
    const int64_t column = task / row_tasks * kPanelCols, row = task % row_tasks * kTaskRows;
    const int64_t row_end = smaller(block.rows, row + kTaskRows);
    if (strip_in_place<T>(g, smaller(kPanelCols, block.columns - column))) {
      const Panel strip = {reinterpret_cast<const float*>(b + column), 1, g.b.strides[0]};
      multiply_strip<T, Out, false>(g, block, row, row_end, column, panels, strip, sums);
      continue;
    }
    if (g.kept_b == nullptr && column >= stop) {
      first = column;
      stop = smaller(run_end, column + block.strip_group * kPanelCols);
      pack_panels<kPanelCols>(b + column * g.b.strides[1], g.b.strides[1], g.b.strides[0],
                              stop - first, block.depth, strips);
    }
    const float* at = g.kept_b != nullptr
                          ? kept_strip<T>(g, block.start, block.depth, block.column + column)
                          : strips + (column - first) * packed_depth<T>(block.depth);
    const Panel strip = packed_panel(at, kPanelCols);
    if (rows_in_place<T>(g)) {
      multiply_strip<T, Out, false>(g, block, row, row_end, column, panels, strip, sums);
    } else {
      multiply_strip<T, Out, true>(g, block, row, row_end, column, panels, strip, sums);
    }
  }
}

// A member's share of a block whose columns are few: all of them, in some of the rows. It waits for
// nobody, and that everyone packs all strips costs little where everyone has many rows.
template <typename T, typename Out>
static void multiply_rows(const Gemm& g, Block block, const Team& team, float* packed_a,
                          float* strips, Sums sums) {
  const int64_t panels = blocks(block.rows, kPanelRows);
  const int64_t begin = team.begin(panels) * kPanelRows;
  block.row += begin;
  block.rows = smaller(team.end(panels) * kPanelRows, block.rows) - begin;
  if (block.rows <= 0) return;
  sums.data += begin * sums.ld;
  packed_a += begin * packed_depth<T>(block.depth);
  const Team alone = {0, 1};
  if (!rows_in_place<T>(g)) pack_rows<T>(g, block, alone, packed_a);
  multiply_block<T, Out>(g, block, alone, packed_a, strips, sums);
}

template <typename T, typename Out>
static void blocked_product(const Gemm& g) {
  constexpr int64_t kEnoughRows = 32;  // for one member
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const GemmBlocks extents = gemm_blocks(m, n, packed_depth<T>(k));
  const int64_t depth = extents.words * (kPaired<T> ? 2 : 1);
  if (g.kept_b != nullptr && !g.is_kept) keep_b<T>(g, depth);
  const bool direct = accumulates_in_c<Out>(g), keeps_sums = k > depth;
  const int64_t width = keeps_sums && !direct ? extents.columns : n;
  float* packed_a = static_cast<float*>(g.workspace);
  float* kept = packed_a + extents.packed_a();
  float* packed_b = kept + (keeps_sums ? extents.sums() : 0);
  run_team(m * n * k / kProductsPerOperation, [&](const Team& team) {
    float* strips = packed_b + team.rank * extents.strips();
    const bool by_rows = n <= kFewColumns && m >= team.size * kEnoughRows;
    for (int64_t column = 0; column < n; column += width) {
      for (int64_t row = 0; row < m; row += extents.rows) {
        float* c = data_as<float>(g.c) + row * g.c.strides[0] + column;
        const Sums sums = {direct ? c : kept, direct ? g.c.strides[0] : width, direct};
        for (int64_t start = 0; start < k; start += depth) {
          const Block block = {row,
                               smaller(extents.rows, m - row),
                               column,
                               smaller(width, n - column),
                               start,
                               smaller(depth, k - start),
                               extents.strip_group};
          if (by_rows) {
            multiply_rows<T, Out>(g, block, team, packed_a, strips, sums);
          } else {
            if (!rows_in_place<T>(g)) {
              pack_rows<T>(g, block, team, packed_a);
              team.barrier();
            }
            multiply_block<T, Out>(g, block, team, packed_a, strips, sums);
          }
          const bool last_block =
              row + block.rows == m && column + block.columns == n && start + block.depth == k;
          if (!last_block) team.barrier();  // before the next block overwrites this one
        }
      }
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
