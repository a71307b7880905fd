// Matrix fragments of a warp: ldmatrix, stmatrix and mma.sync, with the layouts of the PTX ISA
// ("Matrix fragments for mma.m16n8k16", "ldmatrix", "stmatrix"). Each is one collective of all 32
// lanes, carried out by the last lane to arrive.
#pragma once

#include <cstdint>

#include "simt/bfloat16.h"
#include "simt/half.h"

namespace pymodel::simt::emulator {

// `count` (1, 2 or 4) matrices of 8 x 8 two-byte elements; lanes 8 m to 8 m + 7 give the rows of
// matrix m. registers[m] receives or gives this lane's two elements of matrix m.
void load_matrices(int count, bool transposed, const void* shared_row, uint32_t* registers);
void store_matrices(int count, bool transposed, void* shared_row, const uint32_t* registers);

// d (16, 8) += a (16, 16) b (16, 8), sums in float32 in the order of k.
template <typename T>
void multiply_16x8x16(float* d, const uint32_t* a, const uint32_t* b);
// d (16, 8) += a (16, 8) b (8, 8) on tf32 numbers: the lower 13 bits of a float do not count.
void multiply_16x8x8_tf32(float* d, const uint32_t* a, const uint32_t* b);

}  // namespace pymodel::simt::emulator
