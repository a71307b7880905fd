// What every CPU product ends with: a tile of float32 sums becomes a tile of C (the formula is in
// gemm.h).
#pragma once

#include "cpu/activations.h"
#include "ops/gemm/gemm.h"

namespace pymodel::cpu::PYMODEL_ISA {

PYMODEL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
PYMODEL_INLINE int64_t blocks(int64_t count, int64_t block) { return (count + block - 1) / block; }

// Where a tile of C and what is added to it lie. A copy of what `Gemm` says, because the compiler
// would read that again after every store, which might have changed it.
template <typename T, typename Out>
struct TileOfC {
  Out* out;           // (rows, columns), row stride out_stride; so the others
  T* preactivation;   // (rows, columns) or null
  const T* residual;  // (rows, columns) or null
  const T* bias;      // (columns) or null
  int64_t out_stride, preactivation_stride, residual_stride;
  float alpha, beta;
  bool activation_gradient;
};

template <typename T>
PYMODEL_INLINE T* element_of(const TensorView& view, int64_t row, int64_t column) {
  return view.data == nullptr ? nullptr : data_as<T>(view) + row * view.strides[0] + column;
}

template <typename T, typename Out>
PYMODEL_INLINE TileOfC<T, Out> tile_of_c(const Gemm& g, int64_t row, int64_t column) {
  return {element_of<Out>(g.c, row, column),
          element_of<T>(g.preactivation, row, column),
          element_of<T>(g.residual, row, column),
          g.bias.data == nullptr ? nullptr : data_as<T>(g.bias) + column,
          g.c.strides[0],
          g.preactivation.strides[0],
          g.residual.strides[0],
          g.alpha,
          g.beta,
          g.activation_gradient};
}

// Turns products of row i and columns [j, j + count) of the tile into elements of C; `count` is at
// most kLanes.
template <Activation kind, typename T, typename Out>
PYMODEL_INLINE void finish_vector(const TileOfC<T, Out>& c, Vec product, int64_t i, int64_t j,
                                  int64_t count) {
  Vec z = product * c.alpha;
  if (c.bias != nullptr) z += load_lanes(c.bias + j, count);
  T* const saved = c.preactivation + i * c.preactivation_stride + j;
  Vec result;
  if (c.activation_gradient) {
    result = z * activation_derivative<kind>(load_lanes(saved, count));
  } else {
    if (c.preactivation != nullptr) {
      // The activation is taken of what was stored, so that backward differentiates at the very
      // point that forward evaluated.
      T rounded[kLanes];
      store(rounded, z);
      z = load(rounded);
      store_lanes(saved, z, count);
    }
    result = activate<kind>(z);
  }
  if (c.residual != nullptr) {
    result += load_lanes(c.residual + i * c.residual_stride + j, count);
  }
  Out* const out = c.out + i * c.out_stride + j;
  if (c.beta != 0.0f) result += c.beta * load_lanes(out, count);
  store_lanes(out, result, count);
}

// As finish_vector for every element where there is nothing but products and C.
template <bool accumulate, typename T, typename Out>
static void finish_plain_tile(const TileOfC<T, Out>& c, const float* tile, int64_t ld, int64_t rows,
                              int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    Out* const out = c.out + i * c.out_stride;
    for_each_vector(columns, [&](int64_t j, int64_t count) {
      Vec result = load_lanes(tile + i * ld + j, count) * c.alpha;
      if (accumulate) result += c.beta * load_lanes(out + j, count);
      store_lanes(out + j, result, count);
    });
  }
}

template <typename T, typename Out>
static void finish_tile(const Gemm& g, const float* tile, int64_t ld, int64_t row, int64_t column,
                        int64_t rows, int64_t columns) {
  const TileOfC<T, Out> c = tile_of_c<T, Out>(g, row, column);
  if (c.bias == nullptr && c.residual == nullptr && c.preactivation == nullptr &&
      g.activation == Activation::none) {
    return c.beta == 0.0f ? finish_plain_tile<false>(c, tile, ld, rows, columns)
                          : finish_plain_tile<true>(c, tile, ld, rows, columns);
  }
  dispatch_activation(g.activation, [&](auto kind) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; j += kLanes) {
        const int64_t count = smaller(kLanes, columns - j);
        const Vec product = load_lanes(tile + i * ld + j, count);
        finish_vector<decltype(kind)::value>(c, product, i, j, count);
      }
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
