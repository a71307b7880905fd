// gemm of float16 and bfloat16 on tensor cores, for sm_80 and later: a block of four warps sums a
// tile of C, each warp a quarter of it, with mma.sync m16n8k16 and float32 sums in registers.
//
// Tiles of A and B, 32 deep, go from global to shared memory through cp.async, four stages deep:
// three fetches are under way while one is multiplied. Fragments come out of shared memory through
// ldmatrix, which transposes where an operand lies dense along M or N, so that NN, NT, TN and TT
// differ only in which of the two instructions loads a fragment.
//
// Bank conflicts: shared memory is read and written in chunks of 16 bytes, eight of which fill its
// 32 banks. ldmatrix reads eight chunks at a time, the same chunk of eight neighbouring lines.
//   along K, a line has 4 chunks, two lines fill the banks:  chunk ^ (line / 2 % 4) differs in
//            each of four pairs of lines, and the lines of a pair lie in different halves;
//   along M or N, a line of 64 or 128 elements fills the banks once or twice:  chunk ^ (line % 8)
//            differs in each of eight lines.
// Writing, eight lanes fill two whole lines, or eight chunks of one: no conflicts either.
//
// Limits, of a 128 x 128 tile: 4 warps x 64 x 64 products a step. A step of 16 along K costs a warp
// 32 mma of 4096 flop and 8 ldmatrix.x4 of 512 bytes: 32 flop for each byte of shared memory. At
// 128 bytes a clock that allows 4096 flop a clock, twice what sm_80's tensor cores do (2048). From
// global memory a tile takes 2 (128 + 128) K bytes for 2 x 128 x 128 K flop: 64 flop a byte.
// 4 stages x 16 KiB = 64 KiB of shared memory: two blocks a multiprocessor on sm_80 and sm_90.
// A 64 x 64 tile has 16 flop a byte of shared memory and 32 of global memory; it is for products
// with too few large tiles (gemm_tile_plan).
//
// Source: the tiling follows NVIDIA's CUTLASS, "Efficient GEMM in CUDA"; instructions as in the PTX
// ISA, "Matrix multiply-accumulate operation using mma instruction".
#include "cuda/ptx.cuh"
#include "ops/gemm/gemm_product.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

constexpr int kThreads = 128;
constexpr int kDepth = 32;  // of a tile along K
constexpr int kStages = 4;
constexpr int kChunk = 8;  // elements in 16 bytes
static_assert(kGemmDepthMultiple % kDepth == 0, "parts of K end with a tile");

// ---------------------------------------------------------------------------------------------
// Tiles in shared memory

// Of one operand: kExtent lines of kDepth elements, or kDepth lines of kExtent.
template <int kExtent_, bool kDepthDense_>
struct Tile {
  static constexpr int kExtent = kExtent_;
  static constexpr bool kDepthDense = kDepthDense_;
  static constexpr int kLines = kDepthDense ? kExtent : kDepth;
  static constexpr int kChunks = (kDepthDense ? kDepth : kExtent) / kChunk;  // in a line
  static constexpr int kSize = kExtent * kDepth;

  // Elements before a chunk. The permutation repeats after eight lines.
  __device__ __forceinline__ static int offset(int line, int chunk) {
    const int swizzle = kDepthDense ? line / 2 % 4 : line % 8;
    return (line * kChunks + (chunk ^ swizzle)) * kChunk;
  }
};

// Fetches the tiles of one operand, `first` of its extent onward; what lies past the matrix
// becomes zeros, which add nothing to a sum. With kVectors the operand is known to allow 16-byte
// copies, and nothing else is compiled; this is the kernel that has to be fast.
template <typename Tile, bool kVectors, typename T>
class Fetch {
 public:
  __device__ __forceinline__ Fetch(const Operand<T>& from, int64_t offset, int64_t first, int64_t k)
      : data_(from.data + offset),
        first_(first),
        extent_left_(from.extent - first),
        k_(k),
        extent_stride_(from.stride),
        depth_stride_(from.depth_stride),
        copy_(from.copy) {
    const int line = threadIdx.x / Tile::kChunks, element = threadIdx.x % Tile::kChunks * kChunk;
    target_ = Tile::offset(line, element / kChunk);
    own_k_ = Tile::kDepthDense ? element : line;
    const int own_extent = Tile::kDepthDense ? line : element;
    source_ = data_ + (first + own_extent) * from.stride + own_k_ * from.depth_stride;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int extent = own_extent + (Tile::kDepthDense ? i * kLinesAtOnce : 0);
      inside_ |= static_cast<unsigned>(extent < extent_left_) << i;
    }
  }

  // Starts the fetch of the tile at k.
  __device__ __forceinline__ void operator()(T* tile, int64_t k) const {
    if (kVectors || copy_ == Copy::vectors) return vectors(tile, k);
    if (copy_ == Copy::words) return words(tile, k);
    elements(tile, k);
  }

 private:
  // A thread copies the same chunk of lines this far apart.
  static constexpr int kLinesAtOnce = kThreads / Tile::kChunks;
  static constexpr int kCopies = Tile::kLines / kLinesAtOnce;
  static_assert(kLinesAtOnce % 8 == 0, "a thread's chunks are permuted alike");

  __device__ __forceinline__ void vectors(T* tile, int64_t k) const {
    const int64_t k_left = k_ - k - own_k_;
    const int64_t line_step = kLinesAtOnce * (Tile::kDepthDense ? extent_stride_ : depth_stride_);
    const T* source = source_ + k * (Tile::kDepthDense ? 1 : depth_stride_);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool valid =
          (inside_ >> i & 1) != 0 && k_left > (Tile::kDepthDense ? 0 : i * kLinesAtOnce);
      ptx::cp_async_16(tile + target_ + i * kLinesAtOnce * Tile::kChunks * kChunk,
                       valid ? source : data_, valid);
      source += line_step;
    }
  }

  // Calls body(extent, depth, target) for every pair of neighbours in the tile that is this
  // thread's.
  template <typename Body>
  __device__ __forceinline__ void for_each_pair(T* tile, const Body& body) const {
    constexpr int kPairs = Tile::kChunks * kChunk / 2;  // in a line
#pragma unroll 4
    for (int index = threadIdx.x; index < Tile::kLines * kPairs; index += kThreads) {
      const int line = index / kPairs, element = index % kPairs * 2;
      T* const target = tile + Tile::offset(line, element / kChunk) + element % kChunk;
      if (Tile::kDepthDense) {
        body(line, element, target);
      } else {
        body(element, line, target);
      }
    }
  }

  __device__ __forceinline__ const T* at(int64_t extent, int64_t k) const {
    return data_ + (first_ + extent) * extent_stride_ + k * depth_stride_;
  }

  __device__ __forceinline__ void words(T* tile, int64_t k) const {
    for_each_pair(tile, [&](int extent, int depth, T* target) {
      const bool valid = extent < extent_left_ && k + depth < k_;
      ptx::cp_async_4(target, valid ? at(extent, k + depth) : data_, valid);
    });
  }

  // Any strides and addresses: ordinary loads, two elements for one store.
  __device__ __forceinline__ void elements(T* tile, int64_t k) const {
    for_each_pair(tile, [&](int extent, int depth, T* target) {
      Packed<T, 2> pair;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int e = extent + (Tile::kDepthDense ? 0 : i), d = depth + (Tile::kDepthDense ? i : 0);
        const bool valid = e < extent_left_ && k + d < k_;
        pair.element[i] = valid ? *at(e, k + d) : from_float<T>(0.0f);
      }
      store_packed(target, pair);
    });
  }

  const T* data_;    // (extent, K)
  const T* source_;  // this thread's first chunk at k = 0
  int64_t first_, extent_left_, k_, extent_stride_, depth_stride_;
  Copy copy_;
  int target_, own_k_;
  unsigned inside_ = 0;  // bit i: copy i lies inside the extent
};

// Loads fragments of 16 positions of the extent by 16 of K, the first `first` positions into the
// tile. The four quarters come in the order that mma has them in: for A both halves of the extent,
// then of K; for B both halves of K for eight columns, then for the next eight.
template <typename Tile, int kFragments, bool kExtentFirst, typename T>
class Fragments {
 public:
  __device__ __forceinline__ explicit Fragments(int first) {
    const int row = threadIdx.x % 8, low = threadIdx.x / 8 % 2, high = threadIdx.x / 16 % 2;
    const int extent_half = kExtentFirst ? low : high, depth_half = kExtentFirst ? high : low;
#pragma unroll
    for (int i = 0; i < kOffsets; ++i) {
      offsets_[i] = Tile::kDepthDense
                        ? Tile::offset(first + extent_half * 8 + row, i * 2 + depth_half)
                        : Tile::offset(depth_half * 8 + row, first / kChunk + i * 2 + extent_half);
    }
  }

  // Fragment `index` along the extent, `step` along K.
  __device__ __forceinline__ void load(uint32_t (&r)[4], const T* tile, int index, int step) const {
    constexpr int kLineSize = Tile::kChunks * kChunk;
    if constexpr (Tile::kDepthDense) {
      ptx::ldmatrix_x4(r, tile + offsets_[step] + index * 16 * kLineSize);
    } else {
      ptx::ldmatrix_x4_trans(r, tile + offsets_[index] + step * 16 * kLineSize);
    }
  }

 private:
  // Along the lines a fragment's offset is a sum, across them the permutation gets in the way.
  static constexpr int kOffsets = Tile::kDepthDense ? kDepth / 16 : kFragments;
  int offsets_[kOffsets];
};

// ---------------------------------------------------------------------------------------------
// Kernel

template <int kSide, bool kADepthDense, bool kBDepthDense, bool kVectors, typename T>
__global__ void __launch_bounds__(kThreads, 2) gemm_half(const Product<T> p) {
  using TileA = Tile<kSide, kADepthDense>;
  using TileB = Tile<kSide, kBDepthDense>;
  constexpr int kWarpSide = kSide / 2, kFragments = kWarpSide / 16;

  T* const tiles_a = ptx::dynamic_shared<T>();          // (kStages, tile)
  T* const tiles_b = tiles_a + kStages * TileA::kSize;  // (kStages, tile)
  const TilePosition at = locate_tile<kSide, kSide>(p);
  const int64_t k_start = blockIdx.y * p.depth;
  const int64_t k_end = p.k - k_start < p.depth ? p.k : k_start + p.depth;
  const int64_t steps = (k_end - k_start + kDepth - 1) / kDepth;
  const Fetch<TileA, kVectors, T> fetch_a(p.a, p.stack.offset(p.stack.a, at.item), at.row, p.k);
  const Fetch<TileB, kVectors, T> fetch_b(p.b, p.stack.offset(p.stack.b, at.item), at.column, p.k);
  const auto fetch_stage = [&](int64_t step) {
    if (step < steps) {
      const int stage = static_cast<int>(step % kStages);
      fetch_a(tiles_a + stage * TileA::kSize, k_start + step * kDepth);
      fetch_b(tiles_b + stage * TileB::kSize, k_start + step * kDepth);
    }
    ptx::cp_async_commit();  // an empty group too: the waits below count groups
  };

  const int warp = threadIdx.x / kWarp;
  const int warp_row = warp % 2 * kWarpSide, warp_column = warp / 2 * kWarpSide;
  const Fragments<TileA, kFragments, true, T> fragments_a(warp_row);
  const Fragments<TileB, kFragments, false, T> fragments_b(warp_column);
  float sums[kFragments][kFragments * 2][4] = {};
#pragma unroll 1
  for (int step = 0; step < kStages - 1; ++step) fetch_stage(step);
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kStages - 2>();
    // Everyone's part of this stage is there, and the stage fetched next is no longer read.
    __syncthreads();
    fetch_stage(step + kStages - 1);
    const int stage = static_cast<int>(step % kStages);
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[kFragments][4];
#pragma unroll
      for (int i = 0; i < kFragments; ++i) {
        fragments_a.load(a[i], tiles_a + stage * TileA::kSize, i, k);
      }
#pragma unroll
      for (int j = 0; j < kFragments; ++j) {
        uint32_t b[4];
        fragments_b.load(b, tiles_b + stage * TileB::kSize, j, k);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
        for (int i = 0; i < kFragments; ++i) {
          ptx::mma_16x8x16<T>(sums[i][j * 2], a[i], left);
          ptx::mma_16x8x16<T>(sums[i][j * 2 + 1], a[i], right);
        }
      }
    }
  }

  ptx::cp_async_wait<0>();
  __syncthreads();  // the sums take the place of the stages
  float* const tile = ptx::dynamic_shared<float>();
  store_fragments<kSide>(tile, sums, warp_row, warp_column);
  __syncthreads();
  finish_tile<kSide, kSide, kThreads>(p, tile, at);
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <int kSide, bool kVectors, typename T>
void launch_half(const Launch& launch, const Product<T>& p) {
  constexpr size_t kShared = kStages * 2 * kSide * kDepth * sizeof(T);
  static_assert(kShared >= kSide * kSide * sizeof(float), "the sums fit where the stages were");
  const bool a = p.a.depth_dense, b = p.b.depth_dense;
  const auto kernel = a ? (b ? gemm_half<kSide, true, true, kVectors, T>
                             : gemm_half<kSide, true, false, kVectors, T>)
                        : (b ? gemm_half<kSide, false, true, kVectors, T>
                             : gemm_half<kSide, false, false, kVectors, T>);
  launch_tiles(launch, kernel, p, kSide, kSide, kThreads, kShared);
}

template <int kSide, typename T>
void launch_half(const Launch& launch, const Product<T>& p) {
  if (p.a.copy == Copy::vectors && p.b.copy == Copy::vectors) {
    launch_half<kSide, true>(launch, p);
  } else {
    launch_half<kSide, false>(launch, p);
  }
}

}  // namespace

template <typename T>
void multiply_tiles(const Launch& launch, const Product<T>& p, bool large, bool) {
  if (large) {
    launch_half<128>(launch, p);
  } else {
    launch_half<64>(launch, p);
  }
}

template void multiply_tiles<__half>(const Launch&, const Product<__half>&, bool, bool);
template void multiply_tiles<__nv_bfloat16>(const Launch&, const Product<__nv_bfloat16>&, bool,
                                            bool);

}  // namespace pymodel::PYMODEL_BACKEND
