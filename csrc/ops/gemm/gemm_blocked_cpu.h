// Blocked product: A is packed in blocks that stay in the second-level cache, B in strips one panel
// wide, and every tile of C is the product of a panel of each (cpu/micro_gemm.h). A thread packs
// the strip it is about to use into memory of its own, where it is hot when the products begin.
#pragma once

#include "cpu/micro_gemm.h"
#include "cpu/team.h"
#include "ops/gemm/gemm_epilogue_cpu.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Words of k that one accumulator sums up before it is added to the tile of C: short chains keep
// the rounding error low.
constexpr int64_t kChainWords = 256;

// A block of the product: rows and columns of C, and a range of k.
struct Block {
  int64_t row, rows, column, columns, start, depth;
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
template <bool paired>
PYMODEL_INLINE void multiply_chains(int64_t words, const float* a, const float* b, float* c,
                                    int64_t ldc, int rows, int columns, bool accumulate) {
  for (int64_t k = 0; k < words; k += kChainWords) {
    multiply_panels<paired>(smaller(kChainWords, words - k), a + k * kPanelRows, b + k * kPanelCols,
                            c, ldc, rows, columns, accumulate || k > 0);
  }
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

// Products of the rows [row, stop) of a packed block with a packed strip of columns.
template <typename T, typename Out>
static void multiply_strip(const Gemm& g, const Block& block, int64_t row, int64_t stop,
                           int64_t column, const float* packed_a, const float* strip,
                           const Sums& sums) {
  const int64_t words = packed_depth<T>(block.depth);
  const bool first = block.start == 0, last = block.start + block.depth == g.a.shape[1];
  const int columns = static_cast<int>(smaller(kPanelCols, block.columns - column));
  for (int64_t i = row; i < stop; i += kPanelRows) {
    const int rows = static_cast<int>(smaller(kPanelRows, stop - i));
    const float* a = packed_a + i * words;
    if (sums.direct) {
      multiply_chains<kPaired<T>>(words, a, strip, sums.data + i * sums.ld + column, sums.ld, rows,
                                  columns, !first || g.beta != 0.0f);
      continue;
    }
    alignas(64) float tile[kPanelRows * kPanelCols];
    const bool whole = first && last;  // the tile never leaves the first-level cache
    float* target = whole ? tile : sums.data + i * sums.ld + column;
    const int64_t ld = whole ? kPanelCols : sums.ld;
    multiply_chains<kPaired<T>>(words, a, strip, target, ld, rows, columns, !first);
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
  int64_t first = 0, stop = 0;  // the columns that are packed
  for (int64_t task = team.begin(tasks); task < team.end(tasks); ++task) {
    const int64_t column = task / row_tasks * kPanelCols, row = task % row_tasks * kTaskRows;
    if (column >= stop) {
      first = column;
      stop = smaller(run_end, column + kGemmStrips * kPanelCols);
      pack_panels<kPanelCols>(b + column * g.b.strides[1], g.b.strides[1], g.b.strides[0],
                              stop - first, block.depth, strips);
    }
    multiply_strip<T, Out>(g, block, row, smaller(block.rows, row + kTaskRows), column, packed_a,
                           strips + (column - first) * packed_depth<T>(block.depth), sums);
  }
}

template <typename T, typename Out>
static void blocked_product(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const GemmBlocks extents = gemm_blocks(m, n, packed_depth<T>(k));
  const int64_t depth = extents.words * (kPaired<T> ? 2 : 1);
  const bool direct = accumulates_in_c<Out>(g), keeps_sums = k > depth;
  const int64_t width = keeps_sums && !direct ? extents.columns : n;
  float* packed_a = static_cast<float*>(g.workspace);
  float* kept = packed_a + extents.packed_a();
  float* packed_b = kept + (keeps_sums ? extents.sums() : 0);
  run_team(m * n * k, [&](const Team& team) {
    float* strips = packed_b + team.rank * extents.strips();
    for (int64_t column = 0; column < n; column += width) {
      for (int64_t row = 0; row < m; row += extents.rows) {
        float* c = data_as<float>(g.c) + row * g.c.strides[0] + column;
        const Sums sums = {direct ? c : kept, direct ? g.c.strides[0] : width, direct};
        for (int64_t start = 0; start < k; start += depth) {
          const Block block = {row,    smaller(extents.rows, m - row),
                               column, smaller(width, n - column),
                               start,  smaller(depth, k - start)};
          pack_rows<T>(g, block, team, packed_a);
          team.barrier();
          multiply_block<T, Out>(g, block, team, packed_a, strips, sums);
          team.barrier();  // before the next block overwrites this one
        }
      }
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
