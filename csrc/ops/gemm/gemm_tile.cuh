// Tiles of A and B on their way from global memory through shared memory into registers.
//
// A tile of either operand is 64 bytes deep along K: 32 elements of two bytes or 16 of four. It
// goes to shared memory through cp.async, several stages deep: while one stage is multiplied the
// next ones are under way. An operand dense along K lies there as lines of K, any other as lines of
// M or N; nothing is transposed before the fragments are read.
//
// Bank conflicts: shared memory is read and written in chunks of 16 bytes, eight of which fill its
// 32 banks, so eight lanes that move a chunk each must meet eight columns of banks.
//   Lines along K have 4 chunks, two lines fill the banks. Reading, lanes take the same chunk of
//     eight neighbouring lines:  chunk ^ (line / 2 % 4) differs in each of the four pairs of
//     lines, and the lines of a pair lie in different halves.
//   Lines along M or N fill the banks several times. ldmatrix takes the same chunk of eight lines:
//     chunk ^ (line % 8) differs in all of them. Fragments of four-byte elements are read one by
//     one, four lines times two neighbouring chunks:  chunk ^ (2 * line % 8) keeps them apart.
// Writing, eight lanes fill two whole lines along K or eight chunks of one line: no conflicts.
#pragma once

#include "cuda/ptx.cuh"
#include "ops/gemm/gemm_product.cuh"

namespace pymodel::PYMODEL_BACKEND {

template <typename T_, int kExtent_, bool kDepthDense_>
struct Tile {
  using T = T_;
  static constexpr int kExtent = kExtent_;
  static constexpr bool kDepthDense = kDepthDense_;
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T));
  static constexpr int kChunk = kVectorLength<T>;  // elements in 16 bytes
  static constexpr int kLines = kDepthDense ? kExtent : kDepth;
  static constexpr int kLength = kDepthDense ? kDepth : kExtent;  // of a line
  static constexpr int kSize = kExtent * kDepth;
  static_assert(kGemmDepthMultiple % kDepth == 0, "parts of K end with a tile");

  // Elements before an element: before its chunk, whose place in the line is permuted, and before
  // it in the chunk. The permutation repeats after eight lines.
  __device__ __forceinline__ static int offset(int line, int element) {
    const int swizzle = kDepthDense ? line / 2 % 4 : sizeof(T) == 2 ? line % 8 : line * 2 % 8;
    return line * kLength + ((element / kChunk) ^ swizzle) * kChunk + element % kChunk;
  }
};

// ---------------------------------------------------------------------------------------------
// From global to shared memory

// Fetches the tiles of one operand that start at `first` of its extent; what lies past the matrix
// becomes zeros, which add nothing to a sum. With kVectors the operand is known to allow 16-byte
// copies and no other are compiled: that is the kernel that has to be fast.
template <typename Tile, bool kVectors, int kThreads>
class Fetch {
  using T = typename Tile::T;

 public:
  // `offset` elements lie before the operand's matrix.
  __device__ __forceinline__ Fetch(const Operand<T>& from, int64_t offset, int64_t first, int64_t k)
      : data_(from.data + offset + first * from.stride),
        k_(k),
        extent_stride_(from.stride),
        depth_stride_(from.depth_stride),
        extent_left_(at_most(from.extent - first, Tile::kExtent)),
        copy_(from.depth_dense == Tile::kDepthDense ? from.copy : Copy::elements) {}

  // Starts the fetch of the tile at k, which the matrix must reach.
  __device__ __forceinline__ void operator()(T* tile, int64_t k) const {
    if (kVectors || copy_ == Copy::vectors) {
      if (extent_left_ == Tile::kExtent && k_ - k >= Tile::kDepth) {  // no bounds to look at
        for_each_run<Tile::kChunk>(tile, k, [&](T* target, const T* source, int) {
          ptx::cp_async_16(target, source, true);
        });
      } else {
        for_each_run<Tile::kChunk>(tile, k, [&](T* target, const T* source, int left) {
          ptx::cp_async_16(target, left > 0 ? source : data_, left > 0);
        });
      }
    } else if (sizeof(T) == 4 || copy_ == Copy::words) {
      for_each_run<4 / sizeof(T)>(tile, k, [&](T* target, const T* source, int left) {
        ptx::cp_async_4(target, left > 0 ? source : data_, left > 0);
      });
    } else {
      const int64_t stride = Tile::kDepthDense ? depth_stride_ : extent_stride_;
      for_each_run<2>(tile, k, [&](T* target, const T* source, int left) {
        Packed<T, 2> pair;  // ordinary loads, two elements for one store
        pair.element[0] = left > 0 ? source[0] : from_float<T>(0.0f);
        pair.element[1] = left > 1 ? source[stride] : from_float<T>(0.0f);
        store_packed(target, pair);
      });
    }
  }

 private:
  __device__ __forceinline__ static int at_most(int64_t count, int most) {
    return count < most ? static_cast<int>(count) : most;
  }

  // Calls copy(target, source, left) for this thread's runs of kRun elements of the tile: the same
  // run of lines a fixed step apart, of which `left` elements from the run's first on are inside.
  template <int kRun, typename Copier>
  __device__ __forceinline__ void for_each_run(T* tile, int64_t k, const Copier& copy) const {
    constexpr int kRuns = Tile::kLength / kRun, kLinesAtOnce = kThreads / kRuns;
    const int element = threadIdx.x % kRuns * kRun, first_line = threadIdx.x / kRuns;
    const int k_left = at_most(k_ - k, Tile::kDepth);
    const int lines_left = Tile::kDepthDense ? extent_left_ : k_left;
    const int left = (Tile::kDepthDense ? k_left : extent_left_) - element;
    const int64_t line_stride = Tile::kDepthDense ? extent_stride_ : depth_stride_;
    const int64_t element_stride = kRun == Tile::kChunk ? 1
                                   : Tile::kDepthDense  ? depth_stride_
                                                        : extent_stride_;
    const T* source =
        data_ + k * depth_stride_ + first_line * line_stride + element * element_stride;
#pragma unroll 4
    for (int i = 0; i < Tile::kLines / kLinesAtOnce; ++i) {
      const int line = first_line + i * kLinesAtOnce;
      copy(tile + Tile::offset(line, element), source, line < lines_left ? left : 0);
      source += kLinesAtOnce * line_stride;
    }
  }

  const T* data_;  // (extent_left, K)
  int64_t k_, extent_stride_, depth_stride_;
  int extent_left_;
  Copy copy_;
};

// What a kernel has in shared memory: stages of a tile of A and a tile of B, for square tiles of C.
template <typename T, int kSide, bool kADepthDense, bool kBDepthDense>
struct Stages {
  using A = Tile<T, kSide, kADepthDense>;
  using B = Tile<T, kSide, kBDepthDense>;
  // Small tiles are for small grids, where no other block hides the latency of memory.
  static constexpr int kCount = kSide == 128 ? 4 : 6;
  static constexpr int kSize = A::kSize + B::kSize;
  static constexpr size_t kBytes = kCount * kSize * sizeof(T);
  static_assert(kBytes >= kSide * kSide * sizeof(float), "the sums fit where the stages were");
};

// Calls multiply(tile of A, tile of B) for every step along K of this block's part, and leaves
// shared memory free.
template <typename Stages, bool kVectors, int kThreads, typename T, typename Multiply>
__device__ __forceinline__ void for_each_stage(const Product<T>& p, const TilePosition& at,
                                               const Multiply& multiply) {
  using A = typename Stages::A;
  using B = typename Stages::B;
  constexpr int kCount = Stages::kCount;
  T* const stages = ptx::dynamic_shared<T>();  // (kCount, tile of A and tile of B)
  const Fetch<A, kVectors, kThreads> fetch_a(p.a, p.stack.offset(p.stack.a, at.item), at.row, p.k);
  const Fetch<B, kVectors, kThreads> fetch_b(p.b, p.stack.offset(p.stack.b, at.item), at.column,
                                             p.k);
  const int64_t k_start = blockIdx.y * p.depth;
  const int64_t k_end = p.k - k_start < p.depth ? p.k : k_start + p.depth;
  int64_t k_fetched = k_start;
  int to = 0, from = 0;  // the stages to be fetched and to be multiplied next
  const auto fetch_next = [&] {
    if (k_fetched < k_end) {
      T* const stage = stages + to * Stages::kSize;
      fetch_a(stage, k_fetched);
      fetch_b(stage + A::kSize, k_fetched);
      k_fetched += A::kDepth;
      to = to + 1 == kCount ? 0 : to + 1;
    }
    ptx::cp_async_commit();  // an empty group too: the waits below count groups
  };
#pragma unroll 1
  for (int i = 0; i < kCount - 1; ++i) fetch_next();
#pragma unroll 1
  for (int64_t k = k_start; k < k_end; k += A::kDepth) {
    ptx::cp_async_wait<kCount - 2>();
    // Everyone's part of this stage is there, and the stage fetched next is no longer read.
    __syncthreads();
    fetch_next();
    const T* const stage = stages + from * Stages::kSize;
    multiply(stage, stage + A::kSize);
    from = from + 1 == kCount ? 0 : from + 1;
  }
  ptx::cp_async_wait<0>();
  __syncthreads();
}

}  // namespace pymodel::PYMODEL_BACKEND
