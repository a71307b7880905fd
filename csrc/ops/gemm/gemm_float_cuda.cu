// gemm of float32: in true float32 on the scalar units, or in tf32 on tensor cores when asked.
// Both fetch tiles 16 deep through cp.async, four stages deep, into shared memory with K outward:
// stage[k][line], whatever the strides. An operand dense along M or N arrives in 16-byte copies;
// any other is transposed on its way by 4-byte copies, which every float32 address allows.
//
// Bank conflicts: rows of a stage are padded, by 4 floats for the scalar kernel and by 8 for tf32.
// Transposing, a warp writes 32 / padding values of k x padding lines, whose banks
// padding * k + line all differ. The scalar kernel reads 16 bytes of neighbours; a tf32 fragment
// is 4 values of k x 8 lines, whose banks 8 k + line all differ.
//
// Limits. Scalar, 128 x 128 tile: a thread sums 8 x 8 products from 16 floats, so a warp does 64
// fma for 4 loads of 16 bytes a lane, of which only 4 (A) and 8 (B) differ. 64 fma of a warp take
// 16 clocks of a multiprocessor with 128 lanes (32 with 64 lanes); the loads take at most 8. A tile
// takes 4 (128 + 128) K bytes for 2 x 128 x 128 K flop: 32 flop a byte of global memory.
// tf32, the same tile by four warps: 32 mma of 2048 flop take a warp 32 loads of 4 bytes a lane,
// 16 flop a byte of shared memory, 2048 flop at 128 bytes a clock: twice sm_80's 1024.
// Shared memory: 4 stages x 16 x 2 (128 + padding) floats, 66 or 68 KiB: two blocks a
// multiprocessor, as the registers (128 x 256 threads, or 255 x 128) allow.
//
// tf32 keeps 10 bits of mantissa: each factor is off by at most 2^-11 of itself, each product by
// 2^-10, so the error is at most about 2^-10 times the sum of |a b|.
#include "cuda/ptx.cuh"
#include "ops/gemm/gemm_product.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kDepth = 16;  // of a tile along K
constexpr int kStages = 4;
static_assert(kGemmDepthMultiple % kDepth == 0, "parts of K end with a tile");

// ---------------------------------------------------------------------------------------------
// Tiles in shared memory: kDepth rows of kExtent + kPadding floats

template <int kExtent, int kPadding>
struct Tile {
  static constexpr int kStride = kExtent + kPadding;
  static constexpr int kSize = kDepth * kStride;
};

// Starts the fetch of the tile whose corner is (`first` of the extent, k_start); zeros stand where
// the matrix (extent, k) has ended.
template <int kExtent, int kPadding, int kThreads>
__device__ __forceinline__ void fetch(float* tile, const Operand<float>& from, const float* data,
                                      int64_t k_end, int64_t first, int64_t k_start) {
  constexpr int kStride = Tile<kExtent, kPadding>::kStride;
  if (from.depth_dense) {
    constexpr int kDepthLanes = kWarp / kPadding;
#pragma unroll 4
    for (int i = 0; i < kDepth * kExtent / kThreads; ++i) {
      const int index = i * kThreads + threadIdx.x;
      const int line = index / kDepthLanes % kExtent;
      const int k = index % kDepthLanes + index / (kDepthLanes * kExtent) * kDepthLanes;
      const bool valid = first + line < from.extent && k_start + k < k_end;
      const int64_t offset = (first + line) * from.stride + (k_start + k) * from.depth_stride;
      ptx::cp_async_4(tile + k * kStride + line, data + (valid ? offset : 0), valid);
    }
  } else if (from.copy == Copy::vectors) {
#pragma unroll 4
    for (int i = 0; i < kDepth * kExtent / 4 / kThreads; ++i) {
      const int index = i * kThreads + threadIdx.x;
      const int k = index / (kExtent / 4), line = index % (kExtent / 4) * 4;
      const bool valid = first + line < from.extent && k_start + k < k_end;
      const int64_t offset = (k_start + k) * from.depth_stride + first + line;
      ptx::cp_async_16(tile + k * kStride + line, data + (valid ? offset : 0), valid);
    }
  } else {
#pragma unroll 4
    for (int i = 0; i < kDepth * kExtent / kThreads; ++i) {
      const int index = i * kThreads + threadIdx.x;
      const int k = index / kExtent, line = index % kExtent;
      const bool valid = first + line < from.extent && k_start + k < k_end;
      const int64_t offset = (first + line) * from.stride + (k_start + k) * from.depth_stride;
      ptx::cp_async_4(tile + k * kStride + line, data + (valid ? offset : 0), valid);
    }
  }
}

// The pipeline both kernels share: calls multiply(tile of A, tile of B) for every step along K of
// this block's part, and leaves shared memory free.
template <int kRows, int kColumns, int kPadding, int kThreads, typename Multiply>
__device__ __forceinline__ void for_each_stage(const Product<float>& p, const TilePosition& at,
                                               const Multiply& multiply) {
  using TileA = Tile<kRows, kPadding>;
  using TileB = Tile<kColumns, kPadding>;
  float* const tiles_a = ptx::dynamic_shared<float>();      // (kStages, kDepth, kRows + padding)
  float* const tiles_b = tiles_a + kStages * TileA::kSize;  // (kStages, kDepth, kColumns + padding)
  const float* const a = p.a.data + p.stack.offset(p.stack.a, at.item);
  const float* const b = p.b.data + p.stack.offset(p.stack.b, at.item);
  const int64_t k_start = blockIdx.y * p.depth;
  const int64_t k_left = p.k - k_start < p.depth ? p.k - k_start : p.depth;
  const int64_t steps = (k_left + kDepth - 1) / kDepth;
  const auto fetch_stage = [&](int64_t step) {
    if (step < steps) {
      const int64_t k = k_start + step * kDepth;
      const int stage = static_cast<int>(step % kStages);
      fetch<kRows, kPadding, kThreads>(tiles_a + stage * TileA::kSize, p.a, a, p.k, at.row, k);
      fetch<kColumns, kPadding, kThreads>(tiles_b + stage * TileB::kSize, p.b, b, p.k, at.column,
                                          k);
    }
    ptx::cp_async_commit();  // an empty group too: the waits below count groups
  };
#pragma unroll 1
  for (int step = 0; step < kStages - 1; ++step) fetch_stage(step);
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kStages - 2>();
    // Everyone's part of this stage is there, and the stage fetched next is no longer read.
    __syncthreads();
    fetch_stage(step + kStages - 1);
    const int stage = static_cast<int>(step % kStages);
    multiply(tiles_a + stage * TileA::kSize, tiles_b + stage * TileB::kSize);
  }
  ptx::cp_async_wait<0>();
  __syncthreads();
}

// ---------------------------------------------------------------------------------------------
// Kernels

// A thread's sums are groups of 4 x 4, half a tile apart: lanes then read neighbouring 16 bytes.
// A warp covers 4 x 8 such groups, two warps the 16 groups of a tile's columns.
template <int kRows, int kColumns>
struct Scalar {
  static constexpr int kPadding = 4;
  static constexpr int kColumnGroups = kColumns / 64;
  static constexpr int kThreads = kRows / 8 * 16;
};

template <int kRows, int kColumns>
__global__ void __launch_bounds__(Scalar<kRows, kColumns>::kThreads)
    gemm_float(const Product<float> p) {
  using Layout = Scalar<kRows, kColumns>;
  constexpr int kPadding = Layout::kPadding, kThreads = Layout::kThreads;
  constexpr int kColumnGroups = Layout::kColumnGroups;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int row = (warp / 2 * 4 + lane / 8) * 4, column = (warp % 2 * 8 + lane % 8) * 4;
  const TilePosition at = locate_tile<kRows, kColumns>(p);
  float sums[8][4 * kColumnGroups] = {};
  const auto multiply = [&](const float* tile_a, const float* tile_b) {
    // A tile's products are summed by themselves: chains of 16 and K / 16 additions round far less
    // than one of K.
    float part[8][4 * kColumnGroups] = {};
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      Packed<float, 4> a[2], b[kColumnGroups];
#pragma unroll
      for (int group = 0; group < 2; ++group) {
        a[group] = load_packed<4>(tile_a + k * (kRows + kPadding) + row + group * kRows / 2);
      }
#pragma unroll
      for (int group = 0; group < kColumnGroups; ++group) {
        b[group] = load_packed<4>(tile_b + k * (kColumns + kPadding) + column + group * 64);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4 * kColumnGroups; ++j) {
          part[i][j] = fmaf(a[i / 4].element[i % 4], b[j / 4].element[j % 4], part[i][j]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4 * kColumnGroups; ++j) sums[i][j] += part[i][j];
    }
  };
  for_each_stage<kRows, kColumns, kPadding, kThreads>(p, at, multiply);

  float* const tile = ptx::dynamic_shared<float>();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int group = 0; group < kColumnGroups; ++group) {
      const float* const from = sums[i] + group * 4;
      const Packed<float, 4> four = {{from[0], from[1], from[2], from[3]}};
      const int to = sum_index<kColumns>(row + i / 4 * kRows / 2 + i % 4, column + group * 64);
      store_packed(tile + to, four);
    }
  }
  __syncthreads();
  finish_tile<kRows, kColumns, kThreads>(p, tile, at);
}

// tf32: four warps, a quarter of the tile each.
constexpr int kTf32Threads = 128;
constexpr int kTf32Padding = 8;

template <int kRows, int kColumns>
__global__ void __launch_bounds__(kTf32Threads, 2) gemm_tf32(const Product<float> p) {
  constexpr int kWarpRows = kRows / 2, kWarpColumns = kColumns / 2;
  constexpr int kRowFragments = kWarpRows / 16, kColumnFragments = kWarpColumns / 8;
  constexpr int kStrideA = kRows + kTf32Padding, kStrideB = kColumns + kTf32Padding;
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp / 4, quad = threadIdx.x % 4;
  const int warp_row = warp % 2 * kWarpRows, warp_column = warp / 2 * kWarpColumns;
  const TilePosition at = locate_tile<kRows, kColumns>(p);
  float sums[kRowFragments][kColumnFragments][4] = {};
  const auto multiply = [&](const float* tile_a, const float* tile_b) {
#pragma unroll
    for (int k = 0; k < kDepth; k += 8) {
      uint32_t a[kRowFragments][4];
#pragma unroll
      for (int i = 0; i < kRowFragments; ++i) {
        const float* const from = tile_a + (k + quad) * kStrideA + warp_row + i * 16 + group;
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          a[i][part] = ptx::to_tf32(from[part / 2 * 4 * kStrideA + part % 2 * 8]);
        }
      }
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
        const float* const from = tile_b + (k + quad) * kStrideB + warp_column + j * 8 + group;
        const uint32_t b[2] = {ptx::to_tf32(from[0]), ptx::to_tf32(from[4 * kStrideB])};
#pragma unroll
        for (int i = 0; i < kRowFragments; ++i) ptx::mma_16x8x8_tf32(sums[i][j], a[i], b);
      }
    }
  };
  for_each_stage<kRows, kColumns, kTf32Padding, kTf32Threads>(p, at, multiply);

  float* const tile = ptx::dynamic_shared<float>();
  store_fragments<kColumns>(tile, sums, warp_row, warp_column);
  __syncthreads();
  finish_tile<kRows, kColumns, kTf32Threads>(p, tile, at);
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <int kSide>
void launch_float(const Launch& launch, const Product<float>& p, bool tf32) {
  constexpr int kScalarPadding = Scalar<kSide, kSide>::kPadding;
  const auto shared = [](int padding) {
    return sizeof(float) * kStages * 2 * kDepth * (kSide + padding);
  };
  static_assert(kStages * 2 * kDepth >= kSide, "the sums fit where the stages were");
  if (tf32) {
    launch_tiles(launch, gemm_tf32<kSide, kSide>, p, kSide, kSide, kTf32Threads,
                 shared(kTf32Padding));
  } else {
    launch_tiles(launch, gemm_float<kSide, kSide>, p, kSide, kSide, Scalar<kSide, kSide>::kThreads,
                 shared(kScalarPadding));
  }
}

}  // namespace

template <>
void multiply_tiles(const Launch& launch, const Product<float>& p, bool large, bool tf32) {
  if (large) {
    launch_float<128>(launch, p, tf32);
  } else {
    launch_float<64>(launch, p, tf32);
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
