// CPU layer and RMS normalisation. Memory sees each row once: it is read again from the caches.
// Meanwhile the next rows are fetched: memory would rest during most of the arithmetic otherwise.
#include "cpu/dispatch.h"
#include "cpu/math.h"
#include "cpu/parallel.h"
#include "ops/layer_norm/layer_norm.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
PYMODEL_INLINE T* row_of(const TensorView& view, int64_t row) {
  return view.data == nullptr ? nullptr : data_as<T>(view) + row * view.strides[0];
}

// The row of `view` that is fetched while `row` is worked on; the last ones have none to fetch.
template <typename T>
PYMODEL_INLINE const T* row_ahead(const TensorView& view, int64_t row, int64_t distance) {
  return row_of<T>(view, row + distance < view.shape[0] ? row + distance : row);
}

// The sum of term(first element, lanes in use) along a row. Four running sums hide the latency of
// the additions; they are joined in a fixed order.
template <typename Term>
PYMODEL_INLINE float sum_along(int64_t columns, const Term& term) {
  Vec sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= columns; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sums[v] += term(i + v * kLanes, int64_t{kLanes});
  }
  for (; i + kLanes <= columns; i += kLanes) sums[0] += term(i, int64_t{kLanes});
  if (i < columns) sums[1] += term(i, columns - i);
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// ---------------------------------------------------------------------------------------------
// Forward

template <typename T>
static void normalize_row(const LayerNormForward& args, int64_t row, int64_t columns,
                          bool streaming) {
  const bool centered = args.mean.data != nullptr, adds = args.residual.data != nullptr;
  const T* input = row_of<T>(args.x, row);
  float total = 0.0f;
  if (adds) {
    const T* residual = row_of<T>(args.residual, row);
    T* sum_row = row_of<T>(args.sum, row);
    total = sum_along(columns, [&](int64_t i, int64_t n) {
      store_lanes(sum_row + i, load_lanes(input + i, n) + load_lanes(residual + i, n), n);
      return load_lanes(sum_row + i, n);  // as rounded: what backward will read
    });
    input = sum_row;
  } else if (centered) {
    total = sum_along(columns, [&](int64_t i, int64_t n) { return load_lanes(input + i, n); });
  }
  const float mean = centered ? total / static_cast<float>(columns) : 0.0f;
  const T* next_input = row_ahead<T>(args.x, row, 1);
  const T* next_residual = adds ? row_ahead<T>(args.residual, row, 1) : next_input;
  const float squares = sum_along(columns, [&](int64_t i, int64_t n) {
    __builtin_prefetch(next_input + i);
    if (adds) __builtin_prefetch(next_residual + i);
    // Lanes beyond the row would hold -mean and must not count.
    const Vec d = keep_lanes(load_lanes(input + i, n) - mean, n);
    return d * d;
  });
  const float variance = squares / static_cast<float>(columns);
  const float rstd = 1.0f / __builtin_sqrtf(variance + args.eps);
  if (centered) data_as<float>(args.mean)[row] = mean;
  data_as<float>(args.rstd)[row] = rstd;
  const T* weight = data_as<T>(args.weight);
  const T* bias = data_as<T>(args.bias);
  write_row(row_of<T>(args.y, row), columns, streaming, [&](int64_t i, int64_t n) {
    Vec value = (load_lanes(input + i, n) - mean) * rstd;
    if (weight != nullptr) value *= load_lanes(weight + i, n);
    if (bias != nullptr) value += load_lanes(bias + i, n);
    return value;
  });
}

template <typename T>
static void forward(const LayerNormForward& args) {
  const int64_t rows = args.x.shape[0], columns = args.x.shape[1];
  const bool streaming = rows * columns * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  parallel_chunks(rows, 8, rows * columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) normalize_row<T>(args, row, columns, streaming);
    if (streaming) finish_streaming();
  });
}

// ---------------------------------------------------------------------------------------------
// Backward

// Neighbouring rows that are worked on together.
constexpr int64_t kRowGroup = 4;

// What the gradient of a row is made from.
template <typename T>
struct BackwardRow {
  const T* dy;
  const T* input;
  float mean, rstd;
  Vec sum_g, sum_gn;  // of dy * weight, and of that times the normalised input

  BackwardRow(const LayerNormBackward& args, int64_t row)
      : dy(row_of<T>(args.dy, row)),
        input(row_of<T>(args.input, row)),
        mean(args.mean.data == nullptr ? 0.0f : data_as<float>(args.mean)[row]),
        rstd(data_as<float>(args.rstd)[row]),
        sum_g(zero()),
        sum_gn(zero()) {}

  Vec gradient(int64_t i, int64_t n) const { return load_lanes(dy + i, n); }
  Vec normal(int64_t i, int64_t n) const { return (load_lanes(input + i, n) - mean) * rstd; }
};

// Sums of neighbouring rows; their share of dweight and dbias is added to the chunk's float32 sums,
// which pass through the registers once for all of them.
template <typename T, int count>
PYMODEL_INLINE void add_rows(BackwardRow<T> (&rows)[count], const T* weight, int64_t columns,
                             float* dweight, float* dbias) {
  // dy is zero in the lanes beyond the row, so those add nothing.
  for_each_vector(columns, [&](int64_t i, int64_t n) {
    Vec sum_dn = zero(), sum_d = zero();
#pragma GCC unroll 4
    for (BackwardRow<T>& row : rows) {
      const Vec d = row.gradient(i, n), normal = row.normal(i, n);
      const Vec g = weight != nullptr ? d * load_lanes(weight + i, n) : d;
      row.sum_g += g;
      row.sum_gn = fma(g, normal, row.sum_gn);
      sum_dn = fma(d, normal, sum_dn);
      sum_d += d;
    }
    store_lanes(dweight + i, sum_dn + load_lanes(dweight + i, n), n);
    store_lanes(dbias + i, sum_d + load_lanes(dbias + i, n), n);
  });
}

template <typename T>
PYMODEL_INLINE void write_dx(const LayerNormBackward& args, const BackwardRow<T>& row,
                             int64_t number, int64_t columns, bool streaming) {
  const T* weight = data_as<T>(args.weight);
  const T* dsum = row_of<T>(args.dsum, number);
  const float count = static_cast<float>(columns);
  const float mean_g = args.mean.data == nullptr ? 0.0f : sum(row.sum_g) / count;
  const float mean_gn = sum(row.sum_gn) / count;
  const T* next_dy = row_ahead<T>(args.dy, number, kRowGroup);
  const T* next_input = row_ahead<T>(args.input, number, kRowGroup);
  write_row(row_of<T>(args.dx, number), columns, streaming, [&](int64_t i, int64_t n) {
    // To the second level: a whole group would drive the present one out of the first.
    __builtin_prefetch(next_dy + i, 0, 2);
    __builtin_prefetch(next_input + i, 0, 2);
    const Vec d = row.gradient(i, n);
    const Vec g = weight != nullptr ? d * load_lanes(weight + i, n) : d;
    Vec value = fma(row.normal(i, n), broadcast(-mean_gn), g - mean_g) * row.rstd;
    if (dsum != nullptr) value += load_lanes(dsum + i, n);
    return value;
  });
}

template <typename T>
static void backward_rows(const LayerNormBackward& args, int64_t begin, int64_t end, float* dweight,
                          float* dbias, bool streaming) {
  const int64_t columns = args.dy.shape[1];
  const T* weight = data_as<T>(args.weight);
  int64_t r = begin;
  for (; r + kRowGroup <= end; r += kRowGroup) {
    BackwardRow<T> rows[kRowGroup] = {{args, r}, {args, r + 1}, {args, r + 2}, {args, r + 3}};
    add_rows(rows, weight, columns, dweight, dbias);
    for (int i = 0; i < kRowGroup; ++i) write_dx(args, rows[i], r + i, columns, streaming);
  }
  for (; r < end; ++r) {
    BackwardRow<T> rows[1] = {{args, r}};
    add_rows(rows, weight, columns, dweight, dbias);
    write_dx(args, rows[0], r, columns, streaming);
  }
  if (streaming) finish_streaming();
}

// Adds the chunks' partial sums in their order.
template <typename T>
static void finish_parameter(const TensorView& out, const float* partials, int64_t chunks,
                             int64_t columns, bool accumulate) {
  if (out.data == nullptr) return;
  parallel_chunks(columns, 64, chunks * columns, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t n = end - i < kLanes ? end - i : kLanes;
      Vec total = zero();
      for (int64_t c = 0; c < chunks; ++c) total += load_lanes(partials + 2 * c * columns + i, n);
      T* target = data_as<T>(out) + i;
      if (accumulate) total += load_lanes(target, n);
      store_lanes(target, total, n);
    }
  });
}

template <typename T>
static void backward(const LayerNormBackward& args) {
  const int64_t rows = args.dy.shape[0], columns = args.dy.shape[1];
  const int64_t chunk = layer_norm_chunk(rows);
  const int64_t chunks = (rows + chunk - 1) / chunk;
  float* partials = static_cast<float*>(args.workspace);
  const bool streaming = rows * columns * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  parallel_chunks(rows, chunk, rows * columns, [&](int64_t begin, int64_t end) {
    float* dweight = partials + 2 * (begin / chunk) * columns;
    float* dbias = dweight + columns;
    memset(dweight, 0, static_cast<size_t>(2 * columns) * sizeof(float));
    backward_rows<T>(args, begin, end, dweight, dbias, streaming);
  });
  finish_parameter<T>(args.dweight, partials, chunks, columns, args.accumulate);
  finish_parameter<T>(args.dbias, partials + columns, chunks, columns, args.accumulate);
}

}  // namespace

void layer_norm_forward(const LayerNormForward& args) {
  dispatch_floating(args.x.dtype, [&](auto type) { forward<decltype(type)>(args); });
}

void layer_norm_backward(const LayerNormBackward& args) {
  dispatch_floating(args.dy.dtype, [&](auto type) { backward<decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
