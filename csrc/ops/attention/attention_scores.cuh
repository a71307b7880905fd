// What is done to a tile of scores before its softmax: masks, bias, dropout.
#pragma once

#include <type_traits>

#include "core/philox.h"
#include "cuda/launch.h"
#include "ops/attention/attention_plan.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// 2^x; results that are rounded to T's few digits may come from the fast instruction.
template <typename T>
__device__ __forceinline__ float exponential(float x) {
  return sizeof(T) == 4 ? exp2f(x) : ptx::exp2_approximate(x);
}

// ---------------------------------------------------------------------------------------------
// Tiles of scores

// Where a warp's fragment of scores lies.
struct Place {
  int batch, head;  // of the queries
  int first_row, first_column;
};

// The columns of a tile that a row sees.
struct Sight {
  int from, to;
  __device__ __forceinline__ bool operator()(int column) const {
    return column >= from && column < to;
  }
};

// Adds the bias to row 8 r + group of a fragment, where it sees.
template <bool kRowsAreKeys, typename B, int kRowTiles, int kColumns>
__device__ __forceinline__ void add_bias(const TensorView& bias, const Place& at, int r,
                                         const Sight& sees, Fragment<kRowTiles, kColumns>& scores) {
  const int64_t row_stride = kRowsAreKeys ? 1 : bias.strides[2];
  const int64_t column_stride = kRowsAreKeys ? bias.strides[2] : 1;
  const int64_t row = at.first_row + 8 * r + group_of_lane();
  const B* const from = static_cast<const B*>(bias.data) + at.batch * bias.strides[0] +
                        at.head * bias.strides[1] + row * row_stride +
                        at.first_column * column_stride;
#pragma unroll
  for (int n = 0; n < kColumns / 4; ++n) {
    const int column = 8 * (n / 2) + 2 * pair_of_lane() + n % 2;
    float& score = scores.at[r / 2][n / 2][2 * (r % 2) + n % 2];
    if (sees(column)) score = fmaf(to_float(from[column * column_stride]), kLog2E, score);
  }
}

// From products of q and k to scores in units of log2(e), -inf where the mask hides them.
template <typename T, bool kRowsAreKeys, int kRowTiles, int kColumns>
__device__ __forceinline__ void finish_scores(const AttentionInputs& args, const Band& band,
                                              const Place& at,
                                              Fragment<kRowTiles, kColumns>& scores) {
  const float scale = args.scale * kLog2E;
  for_each_element<kRowTiles, kColumns>([&](int r, int n, int e) { scores.at[r][n][e] *= scale; });
#pragma unroll
  for (int r = 0; r < 2 * kRowTiles; ++r) {
    const int row = at.first_row + 8 * r + group_of_lane();
    const Sight sees = {band.from(row) - at.first_column,
                        row < band.rows ? band.to(row) - at.first_column : 0};
    if (args.bias.data != nullptr && args.bias.dtype == DType::float32) {
      add_bias<kRowsAreKeys, float>(args.bias, at, r, sees, scores);
    } else if (args.bias.data != nullptr) {
      add_bias<kRowsAreKeys, T>(args.bias, at, r, sees, scores);
    }
#pragma unroll
    for (int n = 0; n < kColumns / 4; ++n) {
      const int column = 8 * (n / 2) + 2 * pair_of_lane() + n % 2;
      if (!sees(column)) scores.at[r / 2][n / 2][2 * (r % 2) + n % 2] = -INFINITY;
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Dropout

// One bit for each element of a fragment that this thread holds, in their order: whether it stays.
template <int kRowTiles, int kColumns>
struct KeepBits {
  static constexpr int kCount = kRowTiles * kColumns / 2;
  static_assert(kCount <= 64, "one bit for each element");
  using Bits = std::conditional_t<(kCount <= 32), uint32_t, uint64_t>;
  Bits bits = ~Bits{0};

  __device__ __forceinline__ bool keeps(int r, int n, int e) const {
    return bits >> (r * kColumns / 2 + 4 * n + e) & 1;
  }
};

// Which of four neighbouring keys a query keeps, as four bits. `block` counts fours of keys.
__device__ __forceinline__ uint32_t keep_nibble(const AttentionDropout& dropout, uint64_t row,
                                                uint64_t blocks, int block) {
  const PhiloxBlock drawn =
      philox(dropout.seed, row * blocks + static_cast<uint64_t>(block), dropout.offset);
  uint32_t nibble = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    nibble |= static_cast<uint32_t>(drawn.word[i] < dropout.threshold) << i;
  }
  return nibble;
}

// The four elements of fragment column n of a thread. A draw serves four neighbouring keys, which
// several lanes hold: each of them draws another of the blocks that they need and they trade.
template <bool kRowsAreKeys>
__device__ __forceinline__ uint32_t keep_elements(const AttentionInputs& args, uint64_t head_row,
                                                  uint64_t blocks, int row, int column) {
  const int group = group_of_lane(), pair = pair_of_lane();
  if constexpr (kRowsAreKeys) {
    // Lanes of four neighbouring groups: element e of each comes from lane e of them.
    const int e = group % 4;
    const int query = column + 2 * pair + e % 2;
    const int key = row + 8 * (e / 2) + group / 4 * 4;
    uint32_t drawn =
        keep_nibble(args.dropout, head_row + static_cast<uint64_t>(query), blocks, key / 4)
        << (4 * e);
    drawn |= __shfl_xor_sync(kFullMask, drawn, 4);
    drawn |= __shfl_xor_sync(kFullMask, drawn, 8);
    drawn >>= e;
    return (drawn & 1) | (drawn >> 3 & 2) | (drawn >> 6 & 4) | (drawn >> 9 & 8);
  } else {
    // Two lanes share four keys of two rows: the even one draws for the upper row.
    const int query = row + 8 * (pair % 2) + group;
    const uint32_t mine = keep_nibble(args.dropout, head_row + static_cast<uint64_t>(query), blocks,
                                      column / 4 + pair / 2);
    const uint32_t other = __shfl_xor_sync(kFullMask, mine, 1);
    const uint32_t upper = pair % 2 == 0 ? mine : other, lower = pair % 2 == 0 ? other : mine;
    const int shift = 2 * (pair % 2);
    return (upper >> shift & 3) | (lower >> shift & 3) << 2;
  }
}

template <bool kRowsAreKeys, int kRowTiles, int kColumns>
__device__ __forceinline__ KeepBits<kRowTiles, kColumns> keep_bits(const AttentionInputs& args,
                                                                   const Place& at) {
  using Bits = typename KeepBits<kRowTiles, kColumns>::Bits;
  const uint64_t head_row =
      static_cast<uint64_t>((at.batch * args.q.shape[2] + at.head) * args.q.shape[1]);
  const uint64_t blocks = attention_dropout_index(1, 0, static_cast<uint64_t>(args.k.shape[1])) / 4;
  KeepBits<kRowTiles, kColumns> keep = {0};
#pragma unroll 1
  for (int i = 0; i < kRowTiles * kColumns / 8; ++i) {
    const int r = i / (kColumns / 8), n = i % (kColumns / 8);
    const Bits four = keep_elements<kRowsAreKeys>(args, head_row, blocks, at.first_row + 16 * r,
                                                  at.first_column + 8 * n);
    keep.bits |= four << (4 * i);
  }
  return keep;
}

}  // namespace pymodel::PYMODEL_BACKEND
