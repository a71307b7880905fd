// gemm on tensor cores, for sm_80 and later: float16 and bfloat16, and float32 as tf32 when asked.
// A block of four warps sums a tile of C, each warp a quarter of it, with mma.sync (m16n8k16, of
// tf32 m16n8k8) and float32 sums in registers. Tiles come as gemm_tile.cuh says; fragments come out
// of shared memory through ldmatrix, which transposes where an operand lies dense along M or N, so
// that NN, NT, TN and TT differ only in the instruction that loads a fragment.
//
// Limits, of a 128 x 128 tile: a step of two chunks along K costs a warp 32 mma and 8 ldmatrix.x4
// of 512 bytes. For two-byte elements these are 32 x 4096 flop, 32 for each byte of shared memory.
// At 128 bytes a clock that allows 4096 flop a clock, twice what sm_80's tensor cores do (2048).
// From global memory a tile takes 2 (128 + 128) K bytes for 2 x 128 x 128 K flop: 64 flop a byte.
// tf32 does half the flop with the same bytes, on tensor cores half as fast. 4 stages x 16 KiB = 64
// KiB of shared memory: two blocks a multiprocessor on sm_80 and sm_90. A 64 x 64 tile has 16 flop
// a byte of shared memory and 32 of global memory; it is for products with too few large tiles
// (gemm_tile_plan) and for operands that 16-byte copies cannot read.
//
// tf32 keeps 10 bits of mantissa: each factor is off by at most 2^-11 of itself, each product by
// 2^-10, so the error is at most about 2^-10 times the sum of |a b|.
//
// Source: the tiling follows NVIDIA's CUTLASS, "Efficient GEMM in CUDA"; instructions as in the PTX
// ISA, "Matrix multiply-accumulate operation using mma instruction".
#include "ops/gemm/gemm_tile.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kThreads = 128;

// ---------------------------------------------------------------------------------------------
// Fragments

// Loads fragments of 16 positions of the extent by two chunks of K (16 elements of two bytes, 8 of
// four), `first` positions into the tile onward. Their four quarters, of 8 positions by a chunk,
// come in the order that mma has them in: for A both halves of the extent, then of K; for B both
// halves of K for eight columns, then for the next eight.
template <typename Tile, int kFragments, bool kExtentFirst>
class Fragments {
  using T = typename Tile::T;

 public:
  __device__ __forceinline__ explicit Fragments(int first) {
    const int lane = threadIdx.x % kWarp, row = lane % 8;
    const int extent_half = kExtentFirst ? lane / 8 % 2 : lane / 16;
    const int depth_half = kExtentFirst ? lane / 16 : lane / 8 % 2;
#pragma unroll
    for (int i = 0; i < kOffsets; ++i) {
      if constexpr (Tile::kDepthDense) {
        offsets_[i] =
            Tile::offset(first + extent_half * 8 + row, (i * 2 + depth_half) * Tile::kChunk);
      } else if constexpr (sizeof(T) == 2) {
        offsets_[i] = Tile::offset(depth_half * 8 + row, first + i * 16 + extent_half * 8);
      } else {
        offsets_[i] = Tile::offset(lane % 4, first + i * 8 + lane / 4);
      }
    }
  }

  // Fragment `index` along the extent, `step` along K.
  __device__ __forceinline__ void load(uint32_t (&r)[4], const T* tile, int index, int step) const {
    if constexpr (Tile::kDepthDense) {
      ptx::ldmatrix_x4(r, tile + offsets_[step] + index * 16 * Tile::kLength);
    } else if constexpr (sizeof(T) == 2) {
      ptx::ldmatrix_x4_trans(r, tile + offsets_[index] + step * 16 * Tile::kLength);
    } else {  // ldmatrix transposes elements of two bytes only
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int extent_half = kExtentFirst ? i % 2 : i / 2;
        const int depth_half = kExtentFirst ? i / 2 : i % 2;
        const T* const line = tile + (step * 8 + depth_half * 4) * Tile::kLength;
        r[i] = __float_as_uint(line[offsets_[index * 2 + extent_half]]);
      }
    }
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) r[i] = ptx::to_tf32(__uint_as_float(r[i]));
    }
  }

 private:
  // Along the lines an offset is a sum, across them the permutation gets in the way.
  static constexpr int kOffsets = Tile::kDepthDense ? 2 : kFragments * (sizeof(T) == 2 ? 1 : 2);
  int offsets_[kOffsets];
};

template <typename T>
__device__ __forceinline__ void multiply_fragments(float (&sums)[4], const uint32_t (&a)[4],
                                                   const uint32_t (&b)[2]) {
  if constexpr (sizeof(T) == 4) {
    ptx::mma_16x8x8_tf32(sums, a, b);
  } else {
    ptx::mma_16x8x16<T>(sums, a, b);
  }
}

// ---------------------------------------------------------------------------------------------
// Kernel

template <typename Stages, int kSide, bool kVectors, typename T>
__global__ void __launch_bounds__(kThreads, 2) gemm_tensor(const Product<T> p) {
  constexpr int kWarpSide = kSide / 2, kFragments = kWarpSide / 16;
  const int warp = threadIdx.x / kWarp;
  const int warp_row = warp % 2 * kWarpSide, warp_column = warp / 2 * kWarpSide;
  const TilePosition at = locate_tile<kSide, kSide>(p);
  const Fragments<typename Stages::A, kFragments, true> fragments_a(warp_row);
  const Fragments<typename Stages::B, kFragments, false> fragments_b(warp_column);
  float sums[kFragments][kFragments * 2][4] = {};
  for_each_stage<Stages, kVectors, kThreads>(p, at, [&](const T* tile_a, const T* tile_b) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      uint32_t a[kFragments][4];
#pragma unroll
      for (int i = 0; i < kFragments; ++i) fragments_a.load(a[i], tile_a, i, step);
#pragma unroll
      for (int j = 0; j < kFragments; ++j) {
        uint32_t b[4];
        fragments_b.load(b, tile_b, j, step);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
        for (int i = 0; i < kFragments; ++i) {
          multiply_fragments<T>(sums[i][j * 2], a[i], left);
          multiply_fragments<T>(sums[i][j * 2 + 1], a[i], right);
        }
      }
    }
  });
  float* const tile = ptx::dynamic_shared<float>();
  store_fragments<kSide>(tile, sums, warp_row, warp_column);
  __syncthreads();
  finish_tile<kSide, kSide, kThreads>(p, tile, at);
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <int kSide, bool kVectors, bool kADepthDense, bool kBDepthDense, typename T>
void launch_tensor(const Launch& launch, const Product<T>& p) {
  using Shared = Stages<T, kSide, kADepthDense, kBDepthDense>;
  launch_tiles(launch, gemm_tensor<Shared, kSide, kVectors, T>, p, kSide, kThreads, Shared::kBytes);
}

template <int kSide, bool kVectors, typename T>
void launch_layout(const Launch& launch, const Product<T>& p) {
  const bool a = p.a.depth_dense, b = p.b.depth_dense;
  if (a && b) return launch_tensor<kSide, kVectors, true, true>(launch, p);
  if (a) return launch_tensor<kSide, kVectors, true, false>(launch, p);
  if (b) return launch_tensor<kSide, kVectors, false, true>(launch, p);
  launch_tensor<kSide, kVectors, false, false>(launch, p);
}

}  // namespace

template <typename T>
void multiply_on_tensor_cores(const Launch& launch, const Product<T>& p, bool large) {
  if (!p.vectors) {
    // Copies of four bytes read float32 with any strides, so one layout will do.
    if constexpr (sizeof(T) == 4) return launch_tensor<64, false, true, true>(launch, p);
    return launch_layout<64, false>(launch, p);
  }
  if (large) return launch_layout<128, true>(launch, p);
  launch_layout<64, true>(launch, p);
}

template void multiply_on_tensor_cores(const Launch&, const Product<float>&, bool);
template void multiply_on_tensor_cores(const Launch&, const Product<__half>&, bool);
template void multiply_on_tensor_cores(const Launch&, const Product<__nv_bfloat16>&, bool);

}  // namespace pymodel::PYMODEL_BACKEND
