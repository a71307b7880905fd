// What every CPU product ends with: a tile of float32 sums becomes a tile of C (the formula is in
// gemm.h).
#pragma once

#include "cpu/activations.h"
#include "ops/gemm/gemm.h"

namespace pymodel::cpu::PYMODEL_ISA {

PYMODEL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
PYMODEL_INLINE int64_t blocks(int64_t count, int64_t block) { return (count + block - 1) / block; }

template <typename T>
PYMODEL_INLINE T* row_of(const TensorView& view, int64_t row, int64_t column) {
  return view.data == nullptr ? nullptr : data_as<T>(view) + row * view.strides[0] + column;
}

// Turns a row of products into a row of C; `count` is at most kLanes.
template <Activation kind, typename T, typename Out>
PYMODEL_INLINE void finish_vector(const Gemm& g, Vec product, int64_t row, int64_t column,
                                  int64_t count) {
  Vec z = product * g.alpha;
  if (g.bias.data != nullptr) z += load_lanes(data_as<T>(g.bias) + column, count);
  T* saved = row_of<T>(g.preactivation, row, column);
  Vec result;
  if (g.activation_gradient) {
    result = z * activation_derivative<kind>(load_lanes(saved, count));
  } else {
    if (saved != nullptr) {
      // The activation is taken of what was stored, so that backward differentiates at the very
      // point that forward evaluated.
      T rounded[kLanes];
      store(rounded, z);
      z = load(rounded);
      store_lanes(saved, z, count);
    }
    result = activate<kind>(z);
  }
  if (g.residual.data != nullptr) result += load_lanes(row_of<T>(g.residual, row, column), count);
  Out* out = row_of<Out>(g.c, row, column);
  if (g.beta != 0.0f) result += g.beta * load_lanes(out, count);
  store_lanes(out, result, count);
}

template <typename T, typename Out>
static void finish_tile(const Gemm& g, const float* tile, int64_t ld, int64_t row, int64_t column,
                        int64_t rows, int64_t columns) {
  dispatch_activation(g.activation, [&](auto kind) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; j += kLanes) {
        const int64_t count = smaller(kLanes, columns - j);
        const Vec product = load_lanes(tile + i * ld + j, count);
        finish_vector<decltype(kind)::value, T, Out>(g, product, row + i, column + j, count);
      }
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
