// Tiles of C are finished a few rows at a time on the side of the next tile's products, which leave
// the vector units idle. Right after its own products a tile would have to wait for the last sums,
// and the matrix unit for the tile.
#pragma once

#include "cpu/tile_panel.h"
#include "ops/gemm/gemm_epilogue_cpu.h"

#ifdef PYMODEL_ISA_avx512_bf16

namespace pymodel::cpu::PYMODEL_ISA {

// Sums of up to 32 x 32 elements of C, in rows of 32.
template <typename T, typename Out>
struct TileSums {
  TileOfC<T, Out> c;
  const float* sums;
  float* earlier;  // those of the ranges of k before, or null
  int64_t rows, columns;
};

// What there is to do for the elements of a whole tile, in few instructions: time on the side of
// products is short. z = sums + bias, and `other` is
enum class Finish {
  products,          // nothing:          c = z
  more_products,     // earlier:          c = (sums + other) + bias, the order of finish_row
  residual,          // the residual:     c = z + other
  activation,        // nothing:          c = f(z)
  saved_activation,  // preactivation:    other = z, c = f(other)
  gradient,          // preactivation:    c = z f'(other)
};

// A matrix besides C, from a row on.
template <typename T>
struct OtherRows {
  T* at;
  int64_t stride;
};

template <Finish what, typename T, typename Out>
PYMODEL_INLINE OtherRows<T> other_rows(const TileSums<T, Out>& tile, int64_t row) {
  const TileOfC<T, Out>& c = tile.c;
  OtherRows<T> other = {nullptr, 0};
  if constexpr (what == Finish::more_products) other = {tile.earlier, kTilePanelLines};
  if constexpr (what == Finish::residual) other = {const_cast<T*>(c.residual), c.residual_stride};
  if constexpr (what == Finish::saved_activation || what == Finish::gradient) {
    other = {c.preactivation, c.preactivation_stride};
  }
  if (other.at != nullptr) other.at += row * other.stride;
  return other;
}

// Asks for the same rows of the next tile meanwhile.
template <Finish what, Activation kind, typename T, typename Out>
static void finish_whole_rows(const TileSums<T, Out>& tile, const TileSums<T, Out>& next,
                              int64_t row, int64_t row_end) {
  constexpr bool saves = what == Finish::saved_activation;
  constexpr bool has_other = what != Finish::products && what != Finish::activation;
  // The number that changes no other, not even -0, when it is added.
  Vec bias[2] = {broadcast(-0.0f), broadcast(-0.0f)};
  if (tile.c.bias != nullptr) {
    for (int half = 0; half < 2; ++half) bias[half] = load(tile.c.bias + half * kLanes);
  }
  const float* sums = tile.sums + row * kTilePanelLines;
  const int64_t stride = tile.c.out_stride;
  Out* out = tile.c.out + row * stride;
  const Out* next_out = next.c.out + row * stride;
  OtherRows<T> other = other_rows<what>(tile, row), next_other = other_rows<what>(next, row);
  for (int64_t i = row; i < row_end; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2 * kLanes; j += kLanes) {
      Vec z = load(sums + j);
      if (what == Finish::more_products) z += load(other.at + j);
      z += bias[j / kLanes];
      if (what == Finish::residual) z += load(other.at + j);
      if (saves) {
        // As finish_vector: of what was stored.
        store(other.at + j, z);
        if (sizeof(T) != sizeof(float)) z = load(other.at + j);
      }
      if (what == Finish::gradient) z *= activation_derivative<kind>(load(other.at + j));
      if (what == Finish::activation || saves) z = activate<kind>(z);
      store(out + j, z);
      __builtin_prefetch(next_out + j);
      if (has_other) __builtin_prefetch(next_other.at + j);
    }
    sums += kTilePanelLines;
    out += stride;
    next_out += stride;
    if (has_other) {
      other.at += other.stride;
      next_other.at += next_other.stride;
    }
  }
}

// Rows of any tile. A call a row: in a loop over rows all that a tile consists of would be held in
// registers, of which there are too few.
template <Activation kind, typename T, typename Out>
static __attribute__((noinline)) void finish_row(const TileSums<T, Out>& tile, int64_t i) {
  for (int64_t j = 0; j < tile.columns; j += kLanes) {
    const int64_t at = i * kTilePanelLines + j;
    Vec product = load(tile.sums + at);
    if (tile.earlier != nullptr) product += load(tile.earlier + at);
    finish_vector<kind>(tile.c, product, i, j, smaller(kLanes, tile.columns - j));
  }
}

// Asks for the memory that finishing a row will read and write, so that it comes while products are
// computed.
template <typename T, typename Out>
PYMODEL_INLINE void prefetch_row_of_c(const TileOfC<T, Out>& c, int64_t i, int64_t columns) {
  constexpr int64_t kLine = 64 / sizeof(Out), kOtherLine = 64 / sizeof(T);
  for (int64_t j = 0; j < columns; j += kLine) __builtin_prefetch(c.out + i * c.out_stride + j, 1);
  if (c.residual == nullptr && c.preactivation == nullptr) return;
  for (int64_t j = 0; j < columns; j += kOtherLine) {
    if (c.residual != nullptr) __builtin_prefetch(c.residual + i * c.residual_stride + j);
    if (c.preactivation != nullptr) {
      __builtin_prefetch(c.preactivation + i * c.preactivation_stride + j, 1);
    }
  }
}

template <Activation kind, typename T, typename Out>
static void finish_rows(const TileSums<T, Out>& tile, const TileSums<T, Out>& next, int64_t row,
                        int64_t row_end) {
  for (int64_t i = row; i < row_end; ++i) {
    finish_row<kind>(tile, i);
    prefetch_row_of_c(next.c, i, next.columns);
  }
}

// Where k goes on: the sums of all ranges of k so far.
template <typename T, typename Out>
static void add_rows(const TileSums<T, Out>& tile, const TileSums<T, Out>&, int64_t row,
                     int64_t row_end) {
  for (int64_t at = row * kTilePanelLines; at < row_end * kTilePanelLines; at += kLanes) {
    store(tile.earlier + at, load(tile.earlier + at) + load(tile.sums + at));
  }
}

// Of rows [row, row_end) of a tile.
template <typename T, typename Out>
using FinishRows = void (*)(const TileSums<T, Out>& tile, const TileSums<T, Out>& next, int64_t row,
                            int64_t row_end);

// For whole tiles, added to earlier sums or not; or null where one instruction more or less for
// each element matters little.
template <Activation kind, typename T, typename Out>
PYMODEL_INLINE FinishRows<T, Out> whole_rows_finisher(const Gemm& g, bool has_earlier) {
  const bool has_residual = g.residual.data != nullptr;
  const bool has_preactivation = g.preactivation.data != nullptr;
  if (g.alpha != 1.0f || g.beta != 0.0f) return nullptr;
  if constexpr (kind == Activation::none) {
    if (has_preactivation || (has_residual && has_earlier)) return nullptr;
    if (has_residual) return finish_whole_rows<Finish::residual, kind, T, Out>;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (has_earlier) return finish_whole_rows<Finish::more_products, kind, T, Out>;
    }
    return has_earlier ? nullptr : finish_whole_rows<Finish::products, kind, T, Out>;
  } else {
    if (has_residual || has_earlier) return nullptr;
    if (g.activation_gradient) return finish_whole_rows<Finish::gradient, kind, T, Out>;
    return has_preactivation ? finish_whole_rows<Finish::saved_activation, kind, T, Out>
                             : finish_whole_rows<Finish::activation, kind, T, Out>;
  }
}

// Of the tiles of a task, one after the other:
//
//   begin(...)      of a tile whose products come now
//   operator()      `calls` times, on their side: finishes some rows of the tile before
//   end()           the products are there; finishes what is left of the tile before
//
// and flush() after the last one.
template <typename T, typename Out>
class TileFinisher {
 public:
  // Of sums of the last range of k, or of one before; `has_earlier` if they are added to those of
  // ranges before.
  TileFinisher(const Gemm& g, bool last_range, bool has_earlier) : g_(g) {
    any_ = add_rows<T, Out>;
    if (!last_range) return;
    dispatch_activation(g.activation, [&](auto kind) {
      any_ = finish_rows<decltype(kind)::value, T, Out>;
      whole_ = whole_rows_finisher<decltype(kind)::value, T, Out>(g, has_earlier);
    });
  }
  TileFinisher(const TileFinisher&) = delete;
  TileFinisher& operator=(const TileFinisher&) = delete;

  // Memory for the sums of the next tile.
  float* room() { return rooms_[turn_]; }

  // Of C from (row, column) on; `sums` and `earlier` (32, 32), the latter of ranges of k before or
  // null. operator() will be called `calls` times.
  void begin(int64_t row, int64_t column, int64_t rows, int64_t columns, const float* sums,
             float* earlier, int64_t calls) {
    next_ = {tile_of_c<T, Out>(g_, row, column), sums, earlier, rows, columns};
    share_ = blocks(kTilePanelLines, calls);
  }

  __attribute__((always_inline)) void operator()() { finish(smaller(row_ + share_, tile_.rows)); }

  void end() {
    flush();
    tile_ = next_;
    row_ = 0;
    finish_ = tile_.columns == kTilePanelLines && whole_ != nullptr ? whole_ : any_;
    turn_ = 1 - turn_;
  }

  void flush() { finish(tile_.rows); }

 private:
  __attribute__((always_inline)) void finish(int64_t row_end) {
    if (row_ >= row_end) return;
    finish_(tile_, next_, row_, row_end);
    row_ = row_end;
  }

  const Gemm& g_;
  // For any tile, for whole ones or null, and for the one that is finished.
  FinishRows<T, Out> any_ = nullptr, whole_ = nullptr, finish_ = nullptr;
  TileSums<T, Out> tile_ = {}, next_ = {};  // that is finished, and that is multiplied
  int64_t row_ = 0, share_ = 0;
  int turn_ = 0;
  alignas(64) float rooms_[2][kTilePanelLines * kTilePanelLines];
};

}  // namespace pymodel::cpu::PYMODEL_ISA

#endif
