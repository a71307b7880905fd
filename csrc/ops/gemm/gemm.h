// General matrix product with a fused epilogue.
//
//   z = alpha * A B + bias                        A (M, K), B (K, N), bias (N)
//   C = f(z) + residual + beta * C                residual and C (M, N)
//
// f is an activation; `preactivation` (M, N), when given, receives z for the backward pass. With
// `activation_gradient` the epilogue multiplies instead: C = (alpha * A B) * f'(preactivation),
// which is the backward pass through f fused into the product before it.
//
// A and B have one dtype (float32, float16 or bfloat16) and any strides, so transposes cost
// nothing extra. C and the (M, N) operands have unit column stride; C has A's dtype or float32.
// Sums run in float32, over k in an order fixed by the shapes: threads do not change the bits.
//
// A, B and C may be stacks of matrices with equal leading dimensions, which A and B may expand
// with strides of 0; a stack has neither bias, residual nor preactivation.
#pragma once

#include "core/activation.h"
#include "core/caches.h"
#include "core/kernel.h"
#include "core/matrix_unit.h"
#include "core/tensor_view.h"
#include "ops/gemm/gemm_tile_plan.h"

namespace pymodel {

struct Gemm {
  TensorView a;              // (..., M, K)
  TensorView b;              // (..., K, N)
  TensorView c;              // (..., M, N)
  TensorView bias;           // (N) or null
  TensorView residual;       // (M, N) or null
  TensorView preactivation;  // (M, N) or null; written, or read with activation_gradient
  float alpha = 1.0f;
  float beta = 0.0f;  // 0 ignores what C held, even NaN
  Activation activation = Activation::none;
  bool activation_gradient = false;
  // float32 products on a GPU may round A and B to tf32 (10 bits of mantissa); the CPU never does.
  bool tf32 = false;
  void* workspace = nullptr;  // gemm_workspace or gemm_device_workspace bytes, aligned to 64
  // On the CPU, for the packed form of a B that other products will have too: gemm_kept_bytes
  // bytes, aligned to 64, which are written unless `is_kept`, and read instead of B. May be
  // null.
  void* kept_b = nullptr;
  bool is_kept = false;
};

// ---------------------------------------------------------------------------------------------
// Stacks

// Products in the stack.
static inline int64_t gemm_count(const Gemm& g) {
  int64_t count = 1;
  for (int d = 0; d < g.c.ndim - 2; ++d) count *= g.c.shape[d];
  return count;
}

// The product of the stack's matrices number `index`, counted in row-major order.
static inline Gemm gemm_item(const Gemm& g, int64_t index) {
  Gemm item = g;
  const int leading = g.c.ndim - 2;
  TensorView* const matrices[] = {&item.a, &item.b, &item.c};
  for (TensorView* matrix : matrices) {
    int64_t offset = 0, rest = index;
    for (int d = leading - 1; d >= 0; --d) {
      offset += rest % matrix->shape[d] * matrix->strides[d];
      rest /= matrix->shape[d];
    }
    matrix->data =
        static_cast<char*>(matrix->data) + offset * static_cast<int64_t>(item_size(matrix->dtype));
    matrix->ndim = 2;
    for (int d = 0; d < 2; ++d) {
      matrix->shape[d] = matrix->shape[leading + d];
      matrix->strides[d] = matrix->strides[leading + d];
    }
  }
  return item;
}

// ---------------------------------------------------------------------------------------------
// Scratch memory of the CPU kernel

// Whether there are so few rows that they are multiplied without packing: as dot products where
// both have k dense (`dots`), else as sums of B's dense rows. More than 8 rows pay where B fills
// the caches, or as dots, but not in bfloat16, which has a faster product for them.
constexpr int64_t kGemmCpuFewRows = 32, kGemmCpuFewDots = 16;
static inline bool gemm_cpu_few_rows(const Gemm& g, bool dots) {
  constexpr int64_t kVeryFewRows = 8, kLargeB = int64_t{1} << 19;
  const int64_t m = g.c.shape[g.c.ndim - 2], n = g.c.shape[g.c.ndim - 1];
  if (m <= kVeryFewRows || g.a.dtype == DType::bfloat16) return m <= kVeryFewRows;
  return dots ? m <= kGemmCpuFewDots
              : m <= kGemmCpuFewRows && n * g.a.shape[g.a.ndim - 1] >= kLargeB;
}

// Where B has dense rows, a task then takes this many columns of a part of K.
constexpr int64_t kGemmAxpyColumns = 256;

// Extent of a part of K: short, for the sake of rounding and of enough tasks, but at most 64 parts.
static inline int64_t gemm_axpy_depth(int64_t k) {
  constexpr int64_t kShort = 64, kLong = 128;
  if (k > 64 * kLong) return (k + 63) / 64;
  return k >= 6 * kLong ? kLong : kShort;
}
static inline int64_t gemm_axpy_parts(int64_t k) {
  return (k + gemm_axpy_depth(k) - 1) / gemm_axpy_depth(k);
}
// Floats from one row of sums to the next: whole vectors.
static inline int64_t gemm_axpy_stride(int64_t n) { return (n + 15) / 16 * 16; }

// Extents of the cache blocks: rows, columns and strips follow the caches. How k is cut depends on
// k alone, because it decides the order of the sums: every machine is to give the same bits.
struct GemmBlocks {
  int64_t rows, columns;
  int64_t words;        // along k: 32 bits, a float32 or a pair of bfloat16
  int64_t strip_group;  // strips of B, each as wide as a panel, that a thread packs at a time

  // Floats of a packed block of A, of the sums of a block of C and of packed strips of B, with up
  // to a panel of padding each way; 64 is a multiple no panel exceeds.
  int64_t packed_a() const { return (rows + 64) * ((words + 15) / 16 * 16); }
  int64_t sums() const { return (rows + 64) * columns; }
  int64_t strips() const { return strip_group * 64 * words; }
};

static inline GemmBlocks gemm_blocks(int64_t m, int64_t n, int64_t k_words) {
  constexpr int64_t kWords = 1024, kColumns = 1536, kPanelColumns = 48, kMostStrips = 4;
  const int64_t cache = second_level_cache() / static_cast<int64_t>(sizeof(float));
  // Cuts are even, and k is cut where chains of sums end (kChainWords of the kernel).
  const int64_t k_cuts = (k_words + kWords - 1) / kWords;
  const int64_t even = k_cuts <= 1 ? k_words : (k_words + 256 * k_cuts - 1) / (256 * k_cuts) * 256;
  const int64_t deep = even < 128 ? 128 : even;
  // A may be half as large again as the cache: each panel streams from there or from the next level
  // while the one before it is used. Strips are used again and again, and take half of the cache.
  const int64_t rows = 3 * cache / 2 / deep / 64 * 64, strips = cache / 2 / (kPanelColumns * deep);
  const int64_t limit = rows < 64 ? 64 : rows;
  const int64_t row_cuts = m <= limit ? 1 : (m + limit - 1) / limit;
  return {(m + 64 * row_cuts - 1) / (64 * row_cuts) * 64,
          n < kColumns ? (n + 15) / 16 * 16 : kColumns, even,
          strips < 1 ? 1 : (strips < kMostStrips ? strips : kMostStrips)};
}

// Floats for one product on `threads`; `words` is the extent of k, whole or in pairs. Sums are kept
// only between blocks of k.
static inline int64_t gemm_scratch(int64_t m, int64_t n, int64_t words, int64_t threads) {
  const GemmBlocks extents = gemm_blocks(m, n, words);
  const int64_t sums = words > extents.words ? extents.sums() : 0;
  return extents.packed_a() + sums + threads * extents.strips();
}

// Small products of a stack run on one thread each, each thread with scratch memory of its own.
static inline bool gemm_spreads_stack(const Gemm& g) {
  constexpr int64_t kSmall = int64_t{1} << 22;
  const int64_t m = g.c.shape[g.c.ndim - 2], n = g.c.shape[g.c.ndim - 1];
  return gemm_count(g) > 1 && m * n * g.a.shape[g.a.ndim - 1] <= kSmall;
}

// Floats that a thread has to itself when it multiplies matrices of a stack alone, or that all
// `threads` share.
static inline int64_t gemm_share(const Gemm& g, int64_t threads) {
  const int64_t m = g.c.shape[g.c.ndim - 2], n = g.c.shape[g.c.ndim - 1];
  const int64_t k = g.a.shape[g.a.ndim - 1];
  const int64_t whole = gemm_scratch(m, n, k, threads);
  const int64_t pairs = gemm_scratch(m, n, (k + 1) / 2, threads);
  const int64_t few_rows =
      gemm_cpu_few_rows(g, false) ? gemm_axpy_parts(k) * m * gemm_axpy_stride(n) : 0;
  const bool tiled = g.a.dtype != DType::float16;  // may be multiplied by the matrix unit
  const int64_t tiles = tiled ? gemm_tile_workspace(g.a.dtype, m, n, k, threads) / 4 : 0;
  const int64_t needs[] = {whole, pairs, few_rows, tiles};
  int64_t most = 0;
  for (int64_t each : needs) most = each > most ? each : most;
  return most;
}

// Bytes of scratch memory when up to `threads` run.
static inline int64_t gemm_workspace(const Gemm& g, int64_t threads) {
  return 4 * (gemm_spreads_stack(g) ? threads * gemm_share(g, 1) : gemm_share(g, threads));
}

// ---------------------------------------------------------------------------------------------
// B kept in its packed form

// Whether the CPU packs the B of this product in the form that is kept: not where rows are few, and
// where B is read in place.
static inline bool gemm_keeps_b(const Gemm& g) {
  constexpr int64_t kRowsInPlace = 64;
  const bool dots = g.a.strides[1] == 1 && g.b.strides[0] == 1, dense_rows = g.b.strides[1] == 1;
  if (gemm_count(g) != 1 || g.c.ndim != 2) return false;
  if (dots && gemm_cpu_few_rows(g, true)) return false;
  if (dense_rows && gemm_cpu_few_rows(g, false)) return false;
  const int64_t m = g.c.shape[0], n = g.c.shape[1], k = g.a.shape[1];
  if (m == 0 || n == 0 || k == 0) return false;
  if (g.a.dtype != DType::float32) return true;
  return matrix_unit_on() ? gemm_splits(m, n, k) : m > kRowsInPlace || !dense_rows;
}

static inline int64_t gemm_kept_bytes(const Gemm& g) {
  const int64_t n = g.b.shape[1], k = g.b.shape[0];
  const bool tiled = matrix_unit_on() && g.a.dtype != DType::float16;
  // Of the other form, panels of up to 64 columns in 32 bits an element, or a pair.
  return tiled ? gemm_kept_tiles(g.a.dtype, n, k, k) : 4 * (n + 64) * k;
}

// ---------------------------------------------------------------------------------------------
// How the device kernels cut a product into blocks: by shapes alone, never by the GPU at hand, so
// that every GPU adds in the same order.

// Blocks that fill a GPU: about one for each multiprocessor of the largest.
constexpr int64_t kGemmDeviceBlocks = 128;
constexpr int64_t kGemmDepthMultiple = 32;  // parts of K are multiples of every tile's depth
constexpr int64_t kGemmFewRows = 4;         // up to here rows are multiplied without tiles

struct GemmPlan {
  bool large;      // tiles of 128 x 128 of C instead of 64 x 64
  int64_t splits;  // parts of K, summed by different blocks and added by a second kernel
  int64_t depth;   // of one part
};

static inline int64_t gemm_ceil_divide(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

// Cuts K so that `tiles` tiles fill the GPU, into parts of at least `least` each: a part must
// outweigh the writing and adding of its sums.
static inline GemmPlan gemm_split(bool large, int64_t tiles, int64_t k, int64_t least) {
  const int64_t wanted = kGemmDeviceBlocks / (tiles < 1 ? 1 : tiles);
  int64_t splits = k / least < wanted ? k / least : wanted;
  if (splits < 1) splits = 1;
  int64_t depth = gemm_ceil_divide(gemm_ceil_divide(k, splits), kGemmDepthMultiple);
  depth = depth < 1 ? kGemmDepthMultiple : depth * kGemmDepthMultiple;
  splits = gemm_ceil_divide(k, depth);
  return {large, splits < 1 ? 1 : splits, depth};
}

// Large tiles load half as much per product, so they come first wherever they are `allowed` and
// give nearly every multiprocessor a block, with parts of K that are long.
static inline GemmPlan gemm_tile_plan(bool allowed, int64_t count, int64_t m, int64_t n,
                                      int64_t k) {
  const int64_t tiles = count * gemm_ceil_divide(m, 128) * gemm_ceil_divide(n, 128);
  const GemmPlan large = gemm_split(true, tiles, k, 1024);
  const bool enough = 4 * tiles * large.splits >= 3 * kGemmDeviceBlocks;
  if (allowed && enough && m > 64 && n > 64) return large;
  return gemm_split(false, count * gemm_ceil_divide(m, 64) * gemm_ceil_divide(n, 64), k, 256);
}

// Few rows times a B with dense rows: a block takes `columns` of them.
constexpr int64_t gemm_few_rows_columns(DType dtype) { return dtype == DType::float32 ? 32 : 64; }
static inline GemmPlan gemm_few_rows_plan(DType dtype, int64_t n, int64_t k) {
  return gemm_split(false, gemm_ceil_divide(n, gemm_few_rows_columns(dtype)), k, 64);
}

// Bytes of scratch memory on a device: float32 sums (splits, ..., M, N) of the parts of K. Which
// kernel runs depends on strides and addresses too, which this is not to; it serves all of them.
static inline int64_t gemm_device_workspace(const Gemm& g) {
  const int64_t count = gemm_count(g), m = g.c.shape[g.c.ndim - 2], n = g.c.shape[g.c.ndim - 1];
  const int64_t k = g.a.shape[g.a.ndim - 1];
  const bool few_rows = count == 1 && m <= kGemmFewRows;
  const int64_t splits[] = {gemm_tile_plan(true, count, m, n, k).splits,
                            gemm_tile_plan(false, count, m, n, k).splits,
                            few_rows ? gemm_few_rows_plan(g.a.dtype, n, k).splits : 1};
  int64_t most = 1;
  for (int64_t each : splits) most = each > most ? each : most;
  return most > 1 ? 4 * most * count * m * n : 0;
}

PYMODEL_DECLARE_KERNEL(gemm, Gemm)

}  // namespace pymodel
