// The two products that attention is made of: fragments from tiles, and from fragments and tiles.
//
// float16 and bfloat16 go through the tensor cores, where the scores of one product are, without
// leaving the registers, the left operand of the next. float32 is multiplied by ordinary
// instructions in the same layout, so that kernels are written once for all types.
#pragma once

#include <type_traits>

#include "ops/attention/attention_tile.cuh"

namespace pymodel::PYMODEL_BACKEND {

// ---------------------------------------------------------------------------------------------
// Tensor cores

__device__ __forceinline__ uint32_t pack_pair(__half low, __half high) {
  return __half_as_ushort(low) | static_cast<uint32_t>(__half_as_ushort(high)) << 16;
}
__device__ __forceinline__ uint32_t pack_pair(__nv_bfloat16 low, __nv_bfloat16 high) {
  return __bfloat16_as_ushort(low) | static_cast<uint32_t>(__bfloat16_as_ushort(high)) << 16;
}
template <typename T>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  return pack_pair(from_float<T>(low), from_float<T>(high));
}

// c += A B^T on the tensor cores: see multiply_transposed.
template <typename T, int kDepth, int kRowTiles, int kColumns>
__device__ __forceinline__ void tensor_multiply_transposed(const SharedTile<T, kDepth>& a,
                                                           int first_row,
                                                           const SharedTile<T, kDepth>& b,
                                                           int depth,
                                                           Fragment<kRowTiles, kColumns>& c) {
  const int lane = lane_of_thread();
#pragma unroll 2
  for (int step = 0; step * 16 < depth; ++step) {
    uint32_t left[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      ptx::ldmatrix_x4(left[r], a.chunk(first_row + 16 * r + lane % 16, 2 * step + lane / 16));
    }
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t right[4];
      ptx::ldmatrix_x4(right, b.chunk(16 * n + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        ptx::mma_16x8x16<T>(c.at[r][2 * n], left[r], {right[0], right[1]});
        ptx::mma_16x8x16<T>(c.at[r][2 * n + 1], left[r], {right[2], right[3]});
      }
    }
  }
}

// c += A B on the tensor cores: see multiply.
template <typename T, int kDepth, int kRowTiles, int kColumns>
__device__ __forceinline__ void tensor_multiply(const Fragment<kRowTiles, kDepth>& a,
                                                const SharedTile<T, kColumns>& b,
                                                Fragment<kRowTiles, kColumns>& c) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t left[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const from = a.at[r][2 * step + i / 2] + 2 * (i % 2);
        left[r][i] = pack_pair<T>(from[0], from[1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t right[4];
      ptx::ldmatrix_x4_trans(right, b.chunk(16 * step + lane % 16, 2 * n + lane / 16));
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        ptx::mma_16x8x16<T>(c.at[r][2 * n], left[r], {right[0], right[1]});
        ptx::mma_16x8x16<T>(c.at[r][2 * n + 1], left[r], {right[2], right[3]});
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// float32. Sums are formed of parts of at most 16 or of one tile: rounding errors grow with the
// length of a chain, and dP - D of backward, a difference of large numbers, shows them.

constexpr int kSumLength = 16;

template <int kDepth, int kRowTiles, int kColumns>
__device__ __forceinline__ void float_multiply_transposed(const SharedTile<float, kDepth>& a,
                                                          int first_row,
                                                          const SharedTile<float, kDepth>& b,
                                                          int depth,
                                                          Fragment<kRowTiles, kColumns>& c) {
  const int group = group_of_lane(), pair = pair_of_lane();
#pragma unroll 1
  for (int chunk = 0; chunk * 4 < depth; chunk += kSumLength / 4) {
    Fragment<kRowTiles, kColumns> part;
#pragma unroll 1
    for (int k = chunk; k < chunk + kSumLength / 4; ++k) {
      Packed<float, 4> left[kRowTiles][2];
#pragma unroll
      for (int r = 0; r < 2 * kRowTiles; ++r) {
        left[r / 2][r % 2] = load_packed<4>(a.chunk(first_row + 8 * r + group, k));
      }
#pragma unroll
      for (int n = 0; n < kColumns / 4; ++n) {
        const auto right = load_packed<4>(b.chunk(8 * (n / 2) + 2 * pair + n % 2, k));
#pragma unroll
        for (int r = 0; r < 2 * kRowTiles; ++r) {
          float& sum = part.at[r / 2][n / 2][2 * (r % 2) + n % 2];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sum = fmaf(left[r / 2][r % 2].element[i], right.element[i], sum);
          }
        }
      }
    }
    for_each_element<kRowTiles, kColumns>(
        [&](int r, int n, int e) { c.at[r][n][e] += part.at[r][n][e]; });
  }
}

// In a float32 result, elements 0 and 2 of c[r][n] are this column, 1 and 3 the next: four
// neighbours belong to one lane, which reads them from B at once.
__device__ __forceinline__ int float_column(int n) {
  return 16 * (n / 2) + 4 * pair_of_lane() + 2 * (n % 2);
}

// A goes through `staging`, where the lanes of a row find each other's elements.
template <int kDepth, int kRowTiles, int kColumns>
__device__ __forceinline__ void float_multiply(const Fragment<kRowTiles, kDepth>& a,
                                               const SharedTile<float, kDepth>& staging,
                                               int first_row, const SharedTile<float, kColumns>& b,
                                               int columns, Fragment<kRowTiles, kColumns>& c) {
  const int group = group_of_lane(), pair = pair_of_lane();
  __syncwarp();  // an earlier product may still read the rows
#pragma unroll
  for (int r = 0; r < 2 * kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kDepth / 8; ++n) {
      const float* const from = a.at[r / 2][n] + 2 * (r % 2);
      store_packed(staging.element(first_row + 8 * r + group, 8 * n + 2 * pair),
                   Packed<float, 2>{from[0], from[1]});
    }
  }
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kColumns / 16; ++n) {
    if (16 * n >= columns) break;
    Fragment<kRowTiles, 16> part;
#pragma unroll 1
    for (int k = 0; k < kDepth; k += 4) {
      Packed<float, 4> left[2 * kRowTiles];
#pragma unroll
      for (int r = 0; r < 2 * kRowTiles; ++r) {
        left[r] = load_packed<4>(staging.chunk(first_row + 8 * r + group, k / 4));
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto right = load_packed<4>(b.chunk(k + i, 4 * n + pair));
#pragma unroll
        for (int j = 0; j < 8 * kRowTiles; ++j) {
          float& sum = part.at[j / 8][j / 2 % 2][2 * (j / 4 % 2) + j % 2];
          sum = fmaf(left[j / 4].element[i], right.element[j % 4], sum);
        }
      }
    }
    for_each_element<kRowTiles, 16>(
        [&](int r, int half, int e) { c.at[r][2 * n + half][e] += part.at[r][half][e]; });
  }
}

// ---------------------------------------------------------------------------------------------
// The products, by the type of the tiles

// c (16 * kRowTiles, kColumns) += A B^T, with A the rows of tile `a` from first_row on and B the
// kColumns rows of tile `b`. Columns of both from `depth` on are zeros.
template <typename T, int kDepth, int kRowTiles, int kColumns>
__device__ __forceinline__ void multiply_transposed(const SharedTile<T, kDepth>& a, int first_row,
                                                    const SharedTile<T, kDepth>& b, int depth,
                                                    Fragment<kRowTiles, kColumns>& c) {
  if constexpr (std::is_same_v<T, float>) {
    float_multiply_transposed(a, first_row, b, depth, c);
  } else {
    tensor_multiply_transposed(a, first_row, b, depth, c);
  }
}

// c (16 * kRowTiles, kColumns) += A B, with A a fragment, rounded to T, and B the kDepth rows of
// tile `b`, whose columns from `columns` on are zeros. Only float32 needs the staging, a tile of as
// many rows as the block works on.
template <typename T, int kDepth, int kRowTiles, int kColumns>
__device__ __forceinline__ void multiply(const Fragment<kRowTiles, kDepth>& a,
                                         const SharedTile<float, kDepth>& staging, int first_row,
                                         const SharedTile<T, kColumns>& b, int columns,
                                         Fragment<kRowTiles, kColumns>& c) {
  if constexpr (std::is_same_v<T, float>) {
    float_multiply(a, staging, first_row, b, columns, c);
  } else {
    tensor_multiply(a, b, c);
  }
}

// Puts the result of `multiply`, rounded to T, into rows of a tile. factor(i) is what row
// 8 i + group is multiplied by; 0 makes zeros of it, whatever it holds.
template <typename T, int kRowTiles, int kColumns, typename Factor>
__device__ __forceinline__ void stage_fragment(const Fragment<kRowTiles, kColumns>& c,
                                               const SharedTile<T, kColumns>& tile, int first_row,
                                               const Factor& factor) {
  __syncwarp();  // the warp's last product may still read the rows
#pragma unroll
  for (int r = 0; r < 2 * kRowTiles; ++r) {
    const int row = first_row + 8 * r + group_of_lane();
    const float scale = factor(r);
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      const float* const from = c.at[r / 2][n] + 2 * (r % 2);
      const int column = std::is_same_v<T, float> ? float_column(n) : 8 * n + 2 * pair_of_lane();
      const float low = scale == 0.0f ? 0.0f : from[0] * scale;
      const float high = scale == 0.0f ? 0.0f : from[1] * scale;
      store_packed(tile.element(row, column),
                   Packed<T, 2>{from_float<T>(low), from_float<T>(high)});
    }
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
