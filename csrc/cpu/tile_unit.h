// The matrix unit of x86 processors (AMX): eight registers of 16 rows x 64 bytes, and an
// instruction that adds the product of two bfloat16 tiles to a float32 one.
//
//   if (tile_unit_on()) {                        // asked at run time: the same code runs without
//     TileUnit unit;                             // in every thread, for as long as tiles are used
//     tile_zero<0>();
//     for (each 32 of k) {
//       tile_load<1>(a, bytes_between_rows);     // a: 16 rows of 32 consecutive k
//       tile_load<2>(b, kTileRowBytes);          // b: 16 pairs of k, each of 16 columns
//       tile_multiply<0, 1, 2>();                // C (16, 16) += A (16, 32) B (32, 16)
//     }
//     tile_store<0>(sums, bytes_between_rows);   // float32
//   }
//
// B is interleaved: row p holds k = 2 p and 2 p + 1 of column 0, then of column 1, and so on. So A
// can be read where it lies if its rows are dense along k, and B has to be packed: cpu/tile_panel.h
// does both. Loads may begin anywhere, but a row that crosses a cache line costs two accesses.
// Subnormal inputs count as zero, and subnormal results become zero.
//
// A product takes 16 cycles and its result is ready after 52, a load 8 from the first-level cache:
// four accumulators in a square hide the one and balance the other.
//
// Source: Intel, "Intel 64 and IA-32 Architectures Optimization Reference Manual", chapter 20.
#pragma once

#include <stdint.h>

#include "core/matrix_unit.h"
#include "cpu/isa.h"

namespace pymodel::cpu::PYMODEL_ISA {

#ifdef PYMODEL_ISA_avx512_bf16

PYMODEL_INLINE bool tile_unit_on() { return matrix_unit_on(); }

constexpr int kTileRows = 16;
constexpr int kTileDepth = 32;  // along k
constexpr int64_t kTileRowBytes = 64;
constexpr int64_t kTileBytes = kTileRows * kTileRowBytes;

// Gives this thread's tiles their shapes, and their state back at its end: from then on the system
// need not save them when it switches threads. About 0.1 microseconds both.
class TileUnit {
 public:
  __attribute__((always_inline)) TileUnit() {
    struct alignas(64) Shapes {
      uint8_t palette = 1;
      uint8_t first_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Shapes shapes;
    asm volatile("ldtilecfg %0" : : "m"(shapes));
  }
  __attribute__((always_inline)) ~TileUnit() { asm volatile("tilerelease"); }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;
};

// Assembly and not intrinsics: those take register numbers as literal text, and GCC's do not tell
// that they read memory.

// Instructions that do nothing, behind each one that keeps the unit busy. Where another hardware
// thread works on the same core, tile instructions that wait in a dense queue take more than twice
// their time: 32 x 32 products of float32 in six (cpu/tile_split.h) took 76 cycles an instruction
// there and take 43 with these; without such a neighbour they cost nothing.
#define PYMODEL_TILE_PAUSE "\n .rept 8\n nop\n .endr"

template <int tile>
PYMODEL_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}

// 16 rows of 64 bytes, `stride` bytes apart.
template <int tile>
PYMODEL_INLINE void tile_load(const void* rows, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" PYMODEL_TILE_PAUSE
               :
               : "r"(rows), "r"(stride), "i"(tile)
               : "memory");
}

template <int tile>
PYMODEL_INLINE void tile_store(void* rows, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}

// c += a b
template <int c, int a, int b>
PYMODEL_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" PYMODEL_TILE_PAUSE
               :
               : "i"(c), "i"(a), "i"(b));
}

// Asks for 16 rows of a tile that is to be loaded soon. A load of a tile waits for each of its
// lines, and few tiles can be under way at once, above all where another hardware thread shares the
// core: there this makes products 1.5 times as fast.
PYMODEL_INLINE void prefetch_tile(const char* rows, int64_t stride) {
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    __builtin_prefetch(rows);
    rows += stride;
    // Else the compiler holds, and moves along, 32 addresses instead of one.
    if (!__builtin_constant_p(stride)) asm("" : "+r"(rows));
  }
}

#else

constexpr bool tile_unit_on() { return false; }

#endif

}  // namespace pymodel::cpu::PYMODEL_ISA
