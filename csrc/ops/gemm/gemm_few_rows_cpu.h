// Products of few rows, as in decoding: every weight is used once or a few times, so that reading
// it is the bound. Nothing is packed, and each thread reads several runs of memory at a time, which
// one run alone does not bring to the machine's bandwidth.
//
// A row's sums do not depend on how many rows there are.
#pragma once

#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops/gemm/gemm_epilogue_cpu.h"

namespace pymodel::cpu::PYMODEL_ISA {

constexpr int kRowGroup = 4;  // rows that share one reading of B; more find it in cache again

// ---------------------------------------------------------------------------------------------
// Columns of B dense along k, as a (out, in) weight is: each element of C is a dot product.

constexpr int kStreams = 4;
constexpr int64_t kStreamColumns = 16;  // neighbours, read one after the other as one run
constexpr int64_t kDotColumns = kStreams * kStreamColumns;

// products[i][s * kStreamColumns], for `rows` rows of a, row i at a + i * lda, and the columns that
// begin at columns[s]: (k) each.
template <int rows, typename T>
static void dot_columns(const T* a, int64_t lda, const T* const* columns, int64_t k,
                        float* products) {
  // The next column follows in memory: asked for early, it is there after the pause that adding up
  // the lanes makes.
  constexpr int64_t kAhead = 1024 / sizeof(T);
  Vec sums[rows][kStreams];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) sums[i][s] = zero();
  }
  for_each_vector(k, [&](int64_t p, int64_t count) {
    Vec x[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) x[i] = load_lanes(a + i * lda + p, count);
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      __builtin_prefetch(columns[s] + p + kAhead);
      const Vec weight = load_lanes(columns[s] + p, count);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) sums[i][s] = fma(x[i], weight, sums[i][s]);
    }
  });
  for (int i = 0; i < rows; ++i) {
    for (int s = 0; s < kStreams; ++s)
      products[i * kDotColumns + s * kStreamColumns] = sum(sums[i][s]);
  }
}

template <typename T, typename Out>
static void few_rows_dot(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const int64_t lda = g.a.strides[0];
  parallel_chunks(n, kDotColumns, m * n * k, [&](int64_t begin, int64_t end) {
    float products[kGemmCpuFewRows * kDotColumns];
    for (int64_t j = 0; j < kStreamColumns; ++j) {
      const T* columns[kStreams];  // past the end the last one again, whose products are dropped
      for (int s = 0; s < kStreams; ++s) {
        columns[s] =
            data_as<T>(g.b) + smaller(begin + s * kStreamColumns + j, n - 1) * g.b.strides[1];
      }
      for (int64_t i = 0; i < m; i += kRowGroup) {
        const T* a = data_as<T>(g.a) + i * lda;
        float* out = products + i * kDotColumns + j;
        if (m - i >= 4) {
          dot_columns<4>(a, lda, columns, k, out);
        } else if (m - i == 3) {
          dot_columns<3>(a, lda, columns, k, out);
        } else if (m - i == 2) {
          dot_columns<2>(a, lda, columns, k, out);
        } else {
          dot_columns<1>(a, lda, columns, k, out);
        }
      }
    }
    finish_tile<T, Out>(g, products, kDotColumns, 0, begin, m, end - begin);
  });
}

// ---------------------------------------------------------------------------------------------
// Rows of B dense: C is a sum of its scaled rows. Tasks take a part of k and of the columns each,
// with sums of their own, which are added in order afterwards.

constexpr int kAxpyRows = 4;  // rows of B that are read side by side

// sums (rows, width; row stride kGemmAxpyColumns) += x (rows, depth) * b (depth, width), for depth
// up to kAxpyRows: x[i, p] = a[i * lda + p * stride], b's rows at multiples of ldb.
template <int rows, int depth, typename T>
static void add_scaled_rows(const T* a, int64_t lda, int64_t stride, const T* b, int64_t ldb,
                            int64_t width, float* sums) {
  Vec x[rows][depth];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < depth; ++p) x[i][p] = broadcast(to_float(a[i * lda + p * stride]));
  }
  for_each_vector(width, [&](int64_t j, int64_t count) {
    Vec weight[depth];
#pragma GCC unroll 4
    for (int p = 0; p < depth; ++p) {
      __builtin_prefetch(b + (depth + p) * ldb + j);  // the rows after these
      weight[p] = load_lanes(b + p * ldb + j, count);
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      float* out = sums + i * kGemmAxpyColumns + j;
      Vec total = load(out);
#pragma GCC unroll 4
      for (int p = 0; p < depth; ++p) total = fma(x[i][p], weight[p], total);
      store(out, total);
    }
  });
}

// partial (m, n) = a[:, start:stop] b[start:stop, :] in the columns [begin, begin + width)
template <int rows, typename T>
static void axpy_group(const Gemm& g, int64_t row, int64_t start, int64_t stop, int64_t begin,
                       int64_t width, float* partial) {
  const int64_t n = g.c.shape[1], stride = g.a.strides[1], lda = g.a.strides[0];
  const int64_t ldb = g.b.strides[0];
  float sums[rows * kGemmAxpyColumns];
  memset(sums, 0, sizeof sums);
  for (int64_t p = start; p < stop;) {
    const T* a = data_as<T>(g.a) + row * lda + p * stride;
    const T* b = data_as<T>(g.b) + p * ldb + begin;
    if (stop - p >= kAxpyRows) {
      add_scaled_rows<rows, kAxpyRows>(a, lda, stride, b, ldb, width, sums);
      p += kAxpyRows;
    } else {
      add_scaled_rows<rows, 1>(a, lda, stride, b, ldb, width, sums);
      p += 1;
    }
  }
  for (int i = 0; i < rows; ++i) {
    memcpy(partial + (row + i) * n + begin, sums + i * kGemmAxpyColumns,
           sizeof(float) * static_cast<size_t>(width));
  }
}

template <typename T, typename Out>
static void few_rows_axpy(const Gemm& g) {
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  const int64_t parts = gemm_axpy_parts(k), depth = gemm_axpy_depth(k);
  const int64_t chunks = blocks(n, kGemmAxpyColumns);
  const int64_t chunk = blocks(blocks(n, chunks), kLanes) * kLanes;  // all of about one width
  float* partials = static_cast<float*>(g.workspace);                // (parts, m, n)
  parallel_for(parts * chunks, m * n * k, [&](int64_t task) {
    const int64_t part = task / chunks, begin = smaller(task % chunks * chunk, n);
    const int64_t width = smaller(chunk, n - begin);
    const int64_t start = part * depth, stop = smaller(k, start + depth);
    float* partial = partials + part * m * n;
    for (int64_t row = 0; row < m; row += kRowGroup) {
      if (m - row >= 4) {
        axpy_group<4, T>(g, row, start, stop, begin, width, partial);
      } else if (m - row == 3) {
        axpy_group<3, T>(g, row, start, stop, begin, width, partial);
      } else if (m - row == 2) {
        axpy_group<2, T>(g, row, start, stop, begin, width, partial);
      } else {
        axpy_group<1, T>(g, row, start, stop, begin, width, partial);
      }
    }
  });
  parallel_chunks(n, 256, m * n * parts, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < m; ++i) {
      float totals[256];
      for_each_vector(end - begin, [&](int64_t j, int64_t count) {
        Vec total = zero();
        for (int64_t part = 0; part < parts; ++part) {
          total += load_lanes(partials + (part * m + i) * n + begin + j, count);
        }
        store(totals + j, total);
      });
      finish_tile<T, Out>(g, totals, 256, i, begin, 1, end - begin);
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
