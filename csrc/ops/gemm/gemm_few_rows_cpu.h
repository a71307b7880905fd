// Products of few rows, as in decoding and of short prompts: every weight is used once or a few
// times, so that reading it is the bound. Nothing is packed, and each thread reads several runs of
// memory at a time, which one run alone does not bring to the machine's bandwidth.
//
// A row's sums do not depend on how many rows there are, as long as the product is one of these.
#pragma once

#include "cpu/micro_gemm.h"
#include "cpu/team.h"
#include "ops/gemm/gemm_epilogue_cpu.h"

namespace pymodel::cpu::PYMODEL_ISA {

constexpr int kRowGroup = 4;  // rows that share one reading of B; more find it in cache again

// ---------------------------------------------------------------------------------------------
// Columns of B dense along k, as a (out, in) weight is: each element of C is a dot product.

// Columns of a task, and how many runs of neighbours it reads at a time: as many as memory takes,
// or as there are registers for the sums of several rows.
constexpr int64_t kDotColumns = 64;
constexpr int kOneRowStreams = 8, kRowStreams = 4;

// products[i][s * kDotColumns / streams], for `rows` rows of a, row i at a + i * lda, and the
// columns that begin at columns[s]: (k) each.
template <int rows, int streams, typename T>
static void dot_columns(const T* a, int64_t lda, const T* const* columns, int64_t k,
                        float* products) {
  // The next column follows in memory: asked for early, it is there after the pause that adding up
  // the lanes makes.
  constexpr int64_t kAhead = 1024 / sizeof(T);
  Vec sums[rows][streams];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int s = 0; s < streams; ++s) sums[i][s] = zero();
  }
  for_each_vector(k, [&](int64_t p, int64_t count) {
    Vec x[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) x[i] = load_lanes(a + i * lda + p, count);
#pragma GCC unroll 8
    for (int s = 0; s < streams; ++s) {
      __builtin_prefetch(columns[s] + p + kAhead);
      const Vec weight = load_lanes(columns[s] + p, count);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) sums[i][s] = fma(x[i], weight, sums[i][s]);
    }
  });
  for (int i = 0; i < rows; ++i) {
    for (int s = 0; s < streams; ++s)
      products[i * kDotColumns + s * kDotColumns / streams] = sum(sums[i][s]);
  }
}

// products (m, kDotColumns) of all rows with the columns from `begin` on; past the last one it is
// taken again, and what comes of that is not used.
template <int streams, typename T>
static void dot_rows(const Gemm& g, int64_t begin, float* products) {
  constexpr int64_t kNeighbours = kDotColumns / streams;  // read one after the other as one run
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const int64_t lda = g.a.strides[0];
  for (int64_t j = 0; j < kNeighbours; ++j) {
    const T* columns[streams];
    for (int s = 0; s < streams; ++s) {
      columns[s] = data_as<T>(g.b) + smaller(begin + s * kNeighbours + j, n - 1) * g.b.strides[1];
    }
    for (int64_t i = 0; i < m; i += kRowGroup) {
      const T* a = data_as<T>(g.a) + i * lda;
      float* out = products + i * kDotColumns + j;
      if (streams > kRowStreams || m - i == 1) {
        dot_columns<1, streams>(a, lda, columns, k, out);
      } else if (m - i == 2) {
        dot_columns<2, kRowStreams>(a, lda, columns, k, out);
      } else if (m - i == 3) {
        dot_columns<3, kRowStreams>(a, lda, columns, k, out);
      } else {
        dot_columns<4, kRowStreams>(a, lda, columns, k, out);
      }
    }
  }
}

template <typename T, typename Out>
static void few_rows_dot(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  parallel_chunks(n, kDotColumns, m * n * k, [&](int64_t begin, int64_t end) {
    float products[kGemmCpuFewDots * kDotColumns];
    if (m == 1) {
      dot_rows<kOneRowStreams, T>(g, begin, products);
    } else {
      dot_rows<kRowStreams, T>(g, begin, products);
    }
    finish_tile<T, Out>(g, products, kDotColumns, 0, begin, m, end - begin);
  });
}

// ---------------------------------------------------------------------------------------------
// Rows of B dense: C is a sum of its scaled rows. Tasks take a part of k and of the columns each,
// with sums of their own, which are added in order afterwards.

// Rows of B that are read side by side; more where there are more sums to load and store between.
constexpr int64_t kAxpyRows = 32, kAxpyRowsForOne = 8;

// Rows of B, what they are scaled by, and the sums that they are added to.
template <typename T>
struct ScaledRows {
  const T* b;  // (depth, columns), row stride ldb
  int64_t ldb, depth;
  const float* x;  // (depth, m)
  int64_t m;
  float* sums;  // (m, columns), row stride ld; rows padded to whole vectors
  int64_t ld;
  bool first;  // nothing is in the sums yet
};

// The sums of `rows` rows from row i on, in columns [j, j + vectors * kLanes); a single vector may
// be cut short after `count`. Meanwhile what lies `ahead` of each row of B is asked for.
template <int rows, int vectors, typename T>
static void add_scaled_rows(const ScaledRows<T>& r, int64_t i, int64_t j, int64_t count,
                            int64_t ahead) {
  constexpr int kLine = 64 / sizeof(T), kSums = rows * vectors;
  Vec sums[kSums];  // one loop over all, since compilers leave the inner of two in memory
  float* const out = r.sums + i * r.ld + j;
#pragma GCC unroll 16
  for (int s = 0; s < kSums; ++s)
    sums[s] = r.first ? zero() : load(out + s / vectors * r.ld + s % vectors * kLanes);
  const T* b = r.b + j;
  const float* x = r.x + i;
  for (int64_t p = 0; p < r.depth; ++p, b += r.ldb, x += r.m) {
    Vec weights[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      if (v * kLanes % kLine == 0) __builtin_prefetch(b + ahead + v * kLanes);
      weights[v] = vectors == 1 ? load_lanes(b, count) : load(b + v * kLanes);
    }
#pragma GCC unroll 16
    for (int s = 0; s < kSums; ++s)
      sums[s] = fma(broadcast(x[s / vectors]), weights[s % vectors], sums[s]);
  }
#pragma GCC unroll 16
  for (int s = 0; s < kSums; ++s) store(out + s / vectors * r.ld + s % vectors * kLanes, sums[s]);
}

// The same for all rows from row i on, `rows` at a time, then half as many.
template <int rows, int vectors, typename T>
PYMODEL_INLINE void add_to_rows(const ScaledRows<T>& r, int64_t i, int64_t j, int64_t count,
                                int64_t ahead) {
  for (; i + rows <= r.m; i += rows) add_scaled_rows<rows, vectors>(r, i, j, count, ahead);
  if constexpr (rows > 1) add_to_rows<rows / 2, vectors>(r, i, j, count, ahead);
}

// For all columns. Each row of B is read from its first column to its last, and at the end the
// beginning of the row that comes `depth` rows later is asked for.
template <typename T>
static void add_rows(const ScaledRows<T>& r, int64_t columns) {
  constexpr int64_t kAhead = 512 / sizeof(T);
  constexpr int kWide = 4;  // vectors that hide the latency of fma where each has one sum
  const auto ahead = [&](int64_t j) {
    return j + kAhead < columns ? kAhead : r.depth * r.ldb + kAhead - columns;
  };
  int64_t j = 0;
  for (; r.m == 1 && j + kWide * kLanes <= columns; j += kWide * kLanes)
    add_scaled_rows<1, kWide>(r, 0, j, kLanes, ahead(j));
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes)
    add_to_rows<kPanelRows, 2>(r, 0, j, kLanes, ahead(j));
  for (; j < columns; j += kLanes)
    add_to_rows<kPanelRows, 1>(r, 0, j, smaller(kLanes, columns - j), ahead(j));
}

// sums (m, columns; row stride ld) = a[:, start:stop] b[start:stop, column:column + columns]
template <typename T>
static void axpy_part(const Gemm& g, int64_t start, int64_t stop, int64_t column, int64_t columns,
                      float* sums, int64_t ld) {
  const int64_t m = g.c.shape[0], ldb = g.b.strides[0];
  float x[kAxpyRows * kGemmCpuFewRows];
  const int64_t most = m == 1 ? kAxpyRowsForOne : kAxpyRows;
  for (int64_t p = start; p < stop; p += most) {
    const int64_t depth = smaller(most, stop - p);
    for (int64_t i = 0; i < m; ++i) {
      const T* a = data_as<T>(g.a) + i * g.a.strides[0] + p * g.a.strides[1];
      for (int64_t q = 0; q < depth; ++q) x[q * m + i] = to_float(a[q * g.a.strides[1]]);
    }
    const T* b = data_as<T>(g.b) + p * ldb + column;
    add_rows(ScaledRows<T>{b, ldb, depth, x, m, sums, ld, p == start}, columns);
  }
}

// C in the columns [begin, end) from the sums of all parts: (parts, m, ld).
template <typename T, typename Out>
static void add_parts(const Gemm& g, const float* sums, int64_t ld, int64_t begin, int64_t end) {
  const int64_t m = g.c.shape[0], parts = gemm_axpy_parts(g.a.shape[1]);
  float totals[kGemmAxpyColumns];
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = begin; j < end; j += kLanes) {
      Vec total = zero();
      for (int64_t part = 0; part < parts; ++part) total += load(sums + (part * m + i) * ld + j);
      store(totals + j - begin, total);
    }
    finish_tile<T, Out>(g, totals, kGemmAxpyColumns, i, begin, 1, end - begin);
  }
}

template <typename T, typename Out>
static void few_rows_axpy(const Gemm& g) {
  // Neighbouring tasks of a member are done as one, so that it reads longer runs of memory: as wide
  // a one as the second-level cache has room for its sums.
  constexpr int64_t kMostSums = 65536;
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const int64_t parts = gemm_axpy_parts(k), depth = gemm_axpy_depth(k);
  const int64_t chunks = blocks(n, kGemmAxpyColumns), ld = gemm_axpy_stride(n);
  const int64_t most = kMostSums / (m * kGemmAxpyColumns);
  float* const sums = static_cast<float*>(g.workspace);  // (parts, m, ld)
  run_team(m * n * k, [&](const Team& team) {
    const int64_t end = team.end(parts * chunks);
    for (int64_t task = team.begin(parts * chunks); task < end;) {
      const int64_t part = task / chunks, chunk = task % chunks;
      const int64_t run = smaller(smaller(chunks - chunk, end - task), most);
      const int64_t column = chunk * kGemmAxpyColumns, start = part * depth;
      axpy_part<T>(g, start, smaller(k, start + depth), column,
                   smaller(n - column, run * kGemmAxpyColumns), sums + part * m * ld + column, ld);
      task += run;
    }
    team.barrier();
    for (int64_t chunk = team.begin(chunks); chunk < team.end(chunks); ++chunk) {
      const int64_t column = chunk * kGemmAxpyColumns;
      add_parts<T, Out>(g, sums, ld, column, smaller(n, column + kGemmAxpyColumns));
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
