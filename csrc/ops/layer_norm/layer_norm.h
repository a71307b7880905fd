// Layer and RMS normalisation over the last dimension, with an optional residual added first.
//
//   s = x + residual
//   y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias        var is the biased variance
//
// RMS normalisation is the same with mean(s) taken for 0: y = s / sqrt(mean(s^2) + eps) * weight.
// It is asked for by leaving out the tensor that receives the means.
//
// x, residual, s, y (rows, columns), dense along columns; weight, bias (columns). All have one
// floating dtype; mean and rstd = 1 / sqrt(var + eps) (rows) are float32. The variance is summed
// in a second pass over the row, about its mean: E[x^2] - mean^2 would cancel.
//
// Sources: Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450; Zhang and Sennrich, "Root
// Mean Square Layer Normalization", arXiv:1910.07467.
#pragma once

#include "core/kernel.h"
#include "core/tensor_view.h"

namespace pymodel {

struct LayerNormForward {
  TensorView x;         // (rows, columns)
  TensorView residual;  // (rows, columns) or null
  TensorView sum;       // (rows, columns), written when residual is given, else null
  TensorView weight;    // (columns) or null for ones
  TensorView bias;      // (columns) or null for zeros
  TensorView y;         // (rows, columns)
  TensorView mean;      // (rows) float32, or null for RMS normalisation
  TensorView rstd;      // (rows) float32
  float eps = 1e-5f;
};

// With n = (s - mean) * rstd and g = dy * weight:
//   dx = rstd * (g - mean(g) - n * mean(g * n)) + dsum
//   dweight = sum over rows of dy * n,  dbias = sum over rows of dy
// where dsum is the gradient that reached s by itself (the residual stream), and mean(g) is left
// out for RMS normalisation.
struct LayerNormBackward {
  TensorView dy;              // (rows, columns)
  TensorView dsum;            // (rows, columns) or null
  TensorView input;           // (rows, columns): s, or x when there was no residual
  TensorView weight;          // (columns) or null
  TensorView mean;            // (rows) float32, or null for RMS normalisation
  TensorView rstd;            // (rows) float32
  TensorView dx;              // (rows, columns), the gradient of x and of residual
  TensorView dweight;         // (columns) or null
  TensorView dbias;           // (columns) or null
  bool accumulate = false;    // add to dweight and dbias instead of overwriting them
  void* workspace = nullptr;  // layer_norm_workspace(rows, columns) bytes
};

// Rows are cut into chunks by shape alone; each chunk keeps partial sums of dweight and dbias.
static inline int64_t layer_norm_chunk(int64_t rows) {
  const int64_t chunk = (rows + 63) / 64;
  return chunk < 16 ? 16 : chunk;
}
static inline int64_t layer_norm_workspace(int64_t rows, int64_t columns) {
  const int64_t chunks = (rows + layer_norm_chunk(rows) - 1) / layer_norm_chunk(rows);
  return 2 * 4 * chunks * columns;
}

// Devices: so many workers share the rows; each keeps partial sums of its own. A multiple of four,
// because four narrow rows share a block.
static inline int64_t layer_norm_workers(int64_t rows, int64_t columns) {
  const int64_t most = columns <= 512 ? 1024 : 256, workers = (rows + 3) / 4 * 4;
  return workers < most ? workers : most;
}
static inline int64_t layer_norm_device_workspace(int64_t rows, int64_t columns) {
  return 2 * 4 * layer_norm_workers(rows, columns) * columns;
}

PYMODEL_DECLARE_KERNEL(layer_norm_forward, LayerNormForward)
PYMODEL_DECLARE_KERNEL(layer_norm_backward, LayerNormBackward)

}  // namespace pymodel
