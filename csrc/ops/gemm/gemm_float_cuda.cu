// gemm of float32 in true float32, on the scalar units. Tiles come as gemm_tile.cuh says.
//
// A thread sums 8 x 8 products of a 128 x 128 tile (8 x 4 of a 64 x 64 tile). The products of a
// tile 16 deep are summed by themselves and then added: chains of 16 and K / 16 additions round far
// less than one of K, for one addition more in 16.
//
// Limits, of a 128 x 128 tile: four steps along K are 256 fma of a warp, 64 clocks of a
// multiprocessor with 128 lanes, for 16 loads of 16 bytes a lane, of which only 4 (A) and 8 (B)
// differ: 32 clocks of shared memory at most. From global memory a tile takes 4 (128 + 128) K bytes
// for 2 x 128 x 128 K flop: 32 flop a byte. The two sets of 64 sums leave registers for one block
// of 256 threads a multiprocessor; its 64 independent fma a step hide their own latency.
#include "ops/gemm/gemm_tile.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Device helpers

// kCount lines of a tile for one thread, which is one of kExtent / kCount positions along the
// extent. Neighbouring positions read neighbouring chunks or lines, hence without bank conflicts.
template <typename Tile, int kCount>
struct Lines {
  static constexpr int kPositions = Tile::kExtent / kCount;

  // The place in the tile of the thread's line number i.
  __device__ __forceinline__ static int place(int position, int i) {
    if (Tile::kDepthDense) return position + i * kPositions;
    return (position + i / 4 * kPositions) * 4 + i % 4;
  }

  // Four values of K, from 4 * step on.
  __device__ __forceinline__ static void load(float (&values)[4][kCount], const float* tile,
                                              int position, int step) {
    if constexpr (Tile::kDepthDense) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const auto four = load_packed<4>(tile + Tile::offset(place(position, i), step * 4));
#pragma unroll
        for (int k = 0; k < 4; ++k) values[k][i] = four.element[k];
      }
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int i = 0; i < kCount; i += 4) {
          const auto four = load_packed<4>(tile + Tile::offset(step * 4 + k, place(position, i)));
#pragma unroll
          for (int j = 0; j < 4; ++j) values[k][i + j] = four.element[j];
        }
      }
    }
  }
};

// ---------------------------------------------------------------------------------------------
// Kernel

template <int kSide>
constexpr int kThreads = kSide * 2;

template <typename Stages, int kSide, bool kVectors>
__global__ void __launch_bounds__(kThreads<kSide>) gemm_float(const Product<float> p) {
  constexpr int kRows = 8, kColumns = kSide / 16;  // of a thread
  using RowLines = Lines<typename Stages::A, kRows>;
  using ColumnLines = Lines<typename Stages::B, kColumns>;
  // A warp has 4 positions of rows by 8 of columns.
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int row = warp / 2 * 4 + lane / 8, column = warp % 2 * 8 + lane % 8;
  const TilePosition at = locate_tile<kSide, kSide>(p);
  float sums[kRows][kColumns] = {};
  for_each_stage<Stages, kVectors, kThreads<kSide>>(
      p, at, [&](const float* tile_a, const float* tile_b) {
        float part[kRows][kColumns] = {};
#pragma unroll
        for (int step = 0; step < Stages::A::kDepth / 4; ++step) {
          float a[4][kRows], b[4][kColumns];
          RowLines::load(a, tile_a, row, step);
          ColumnLines::load(b, tile_b, column, step);
#pragma unroll
          for (int k = 0; k < 4; ++k) {
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
#pragma unroll
              for (int j = 0; j < kColumns; ++j) part[i][j] = fmaf(a[k][i], b[k][j], part[i][j]);
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
#pragma unroll
          for (int j = 0; j < kColumns; ++j) sums[i][j] += part[i][j];
        }
      });
  float* const tile = ptx::dynamic_shared<float>();
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      tile[sum_index<kSide>(RowLines::place(row, i), ColumnLines::place(column, j))] = sums[i][j];
    }
  }
  __syncthreads();
  finish_tile<kSide, kSide, kThreads<kSide>>(p, tile, at);
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <int kSide, bool kVectors, bool kADepthDense, bool kBDepthDense>
void launch_float(const Launch& launch, const Product<float>& p) {
  using Shared = Stages<float, kSide, kADepthDense, kBDepthDense>;
  launch_tiles(launch, gemm_float<Shared, kSide, kVectors>, p, kSide, kThreads<kSide>,
               Shared::kBytes);
}

template <int kSide>
void launch_layout(const Launch& launch, const Product<float>& p) {
  const bool a = p.a.depth_dense, b = p.b.depth_dense;
  if (a && b) return launch_float<kSide, true, true, true>(launch, p);
  if (a) return launch_float<kSide, true, true, false>(launch, p);
  if (b) return launch_float<kSide, true, false, true>(launch, p);
  launch_float<kSide, true, false, false>(launch, p);
}

}  // namespace

void multiply_on_scalar_units(const Launch& launch, const Product<float>& p, bool large) {
  // Copies of four bytes read float32 with any strides, so one layout will do.
  if (!p.vectors) return launch_float<64, false, true, true>(launch, p);
  if (large) return launch_layout<128>(launch, p);
  launch_layout<64>(launch, p);
}

}  // namespace pymodel::PYMODEL_BACKEND
