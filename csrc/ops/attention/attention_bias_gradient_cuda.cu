// CUDA attention, gradient of the additive bias. A pass of its own, because the bias is shared in
// ways that the blocks of the backward pass are not: a block owns a part of the bias and visits
// every score that it was added to, in a fixed order. dS is computed again for it.
#include "ops/attention/attention_gradient.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// Extents of a block's work. Shared memory stays below the 99 KB that every GPU since sm_80 has.
template <typename T, int kHeadDim>
struct BiasTile {
  static constexpr bool kWideFloat = std::is_same_v<T, float> && kHeadDim > 128;
  static constexpr int kWarps = kWideFloat ? 2 : 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kRows = kWarps * kFragmentRows;   // queries
  static constexpr int kColumns = kWideFloat ? 16 : 32;  // keys
  static constexpr size_t kSharedBytes =
      sizeof(T) * kHeadDim * 2 * (kRows + kColumns) + sizeof(float) * kWarps * kColumns;
  static_assert(kSharedBytes <= 99 * 1024, "must fit into the shared memory of any GPU");
};

// A range of batches or heads, or of tiles of queries, that share a part of the bias.
struct Range {
  int begin, end;
};

struct BiasPart {
  int batch, head;  // of the bias
  int first_key;
  Range batches, heads, tiles;
};

// ---------------------------------------------------------------------------------------------
// Device helpers

// Along a dimension of the bias with `extent` elements: the one at `index`, or, where the bias is
// shared, all `count` that share it.
__device__ __forceinline__ Range sharing(int64_t extent, int index, int64_t count) {
  if (extent == count) return {index, index + 1};
  return {0, static_cast<int>(count)};
}

template <int kRows, int kColumns>
__device__ __forceinline__ BiasPart part_of(const AttentionBiasGradient& args, int64_t block) {
  const TensorView& dbias = args.dbias;
  const int64_t key_tiles = (dbias.shape[3] + kColumns - 1) / kColumns;
  const int64_t query_tiles = (args.q.shape[1] + kRows - 1) / kRows;
  const int64_t parts = (dbias.shape[2] + kRows - 1) / kRows;  // one where queries share the bias
  BiasPart part;
  part.first_key = static_cast<int>(block % key_tiles) * kColumns;
  block /= key_tiles;
  const int tile = static_cast<int>(block % parts);
  part.head = static_cast<int>(block / parts % dbias.shape[1]);
  part.batch = static_cast<int>(block / parts / dbias.shape[1]);
  part.batches = sharing(dbias.shape[0], part.batch, args.q.shape[0]);
  part.heads = sharing(dbias.shape[1], part.head, args.q.shape[2]);
  part.tiles = dbias.shape[2] == args.q.shape[1] ? Range{tile, tile + 1}
                                                 : Range{0, static_cast<int>(query_tiles)};
  return part;
}

template <typename T, int kHeadDim>
struct BiasBlock {
  using Tile = BiasTile<T, kHeadDim>;
  const AttentionBiasGradient& args;
  RowStatistics statistics;
  BiasPart part;
  bool aligned;
  SharedTile<T, kHeadDim> q, dout;  // (kRows, kHeadDim)
  SharedTile<T, kHeadDim> k, v;     // (kColumns, kHeadDim)
  float* warp_sums;                 // (kWarps, kColumns)
  Fragment<1, Tile::kColumns> sum;

  __device__ __forceinline__ int warp() const { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ __forceinline__ int warp_row() const { return warp() * kFragmentRows; }

  __device__ __forceinline__ void copy_tiles(int batch, int head, int first_row,
                                             const Sequence& queries, const Sequence& keys) const {
    const int key_head = head / static_cast<int>(args.q.shape[2] / args.k.shape[2]);
    const int rows = queries.length - first_row, columns = keys.length - part.first_key;
    copy_rows<Tile::kRows, Tile::kThreads>(
        q, rows_of<const T>(args.q, batch, head, queries, first_row, rows, aligned));
    copy_rows<Tile::kRows, Tile::kThreads>(
        dout, rows_of<const T>(args.dout, batch, head, queries, first_row, rows, aligned));
    copy_rows<Tile::kColumns, Tile::kThreads>(
        k, rows_of<const T>(args.k, batch, key_head, keys, part.first_key, columns, aligned));
    copy_rows<Tile::kColumns, Tile::kThreads>(
        v, rows_of<const T>(args.v, batch, key_head, keys, part.first_key, columns, aligned));
    ptx::cp_async_commit();
  }

  // dS of this warp's queries and the part's keys.
  __device__ __forceinline__ void add_scores(int batch, int head, int first_row,
                                             const Sequence& queries, const Band& band) {
    const Place place = {batch, head, first_row + warp_row(), part.first_key};
    Statistic of_row[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = place.first_row + 8 * r + group_of_lane();
      const int64_t at = start_of_lse(args.lse, batch, head, queries) + row;
      const bool valid = row < band.rows;
      of_row[r] = {valid ? statistics.log_sum[at] : 0.0f, valid ? statistics.dot[at] : 0.0f};
    }
    Fragment<1, Tile::kColumns> scores, products;
    multiply_transposed(q, warp_row(), k, columns_of(args.q), scores);
    const auto keep = prepare_scores<T, true, false>(args, band, place, scores);
    multiply_transposed(dout, warp_row(), v, columns_of(args.v), products);
    differentiate<T, true>(
        args, [&](int, int, int e) { return of_row[e / 2]; }, keep, scores, products);
    for_each_element<1, Tile::kColumns>(
        [&](int r, int n, int e) { sum.at[r][n][e] += products.at[r][n][e]; });
  }

  // All scores of one (batch, head) that the part was added to.
  __device__ __forceinline__ void add_head(int batch, int head) {
    const Sequence queries = sequence_of(attention_queries(args, batch));
    const Sequence keys = sequence_of(attention_keys(args, batch));
    const Band band = band_of<false>(args, queries.length, keys.length);
#pragma unroll 1
    for (int tile = part.tiles.begin; tile < part.tiles.end; ++tile) {
      const int first_row = tile * Tile::kRows;
      const TileWalk walk = tile_walk<Tile::kRows, Tile::kColumns>(band, first_row, false);
      const int key_tile = part.first_key / Tile::kColumns;
      if (key_tile < walk.first || key_tile >= walk.last) continue;
      copy_tiles(batch, head, first_row, queries, keys);
      ptx::cp_async_wait<0>();
      __syncthreads();
      if (first_row + warp_row() < band.rows) add_scores(batch, head, first_row, queries, band);
      __syncthreads();
    }
  }

  template <typename B>
  __device__ __forceinline__ void write_rows_of_bias(B* to) const {
    const int64_t length = args.dbias.shape[3];
    for_each_element<1, Tile::kColumns>([&](int r, int n, int e) {
      const int64_t row =
          part.tiles.begin * Tile::kRows + warp_row() + 8 * (e / 2) + group_of_lane();
      const int64_t column = part.first_key + 8 * n + 2 * pair_of_lane() + e % 2;
      if (row < args.dbias.shape[2] && column < length) {
        to[row * length + column] = from_float<B>(sum.at[r][n][e]);
      }
    });
  }

  // Where all queries share the bias: the sums of the columns.
  template <typename B>
  __device__ __forceinline__ void write_shared_row(B* to) const {
#pragma unroll
    for (int n = 0; n < Tile::kColumns / 4; ++n) {
      float total = sum.at[0][n / 2][n % 2] + sum.at[0][n / 2][2 + n % 2];
      for (int step = 4; step < kWarp; step *= 2) {
        total += __shfl_xor_sync(kFullMask, total, step);
      }
      const int column = 8 * (n / 2) + 2 * pair_of_lane() + n % 2;
      if (group_of_lane() == 0) warp_sums[warp() * Tile::kColumns + column] = total;
    }
    __syncthreads();
    const int column = static_cast<int>(threadIdx.x);
    if (column >= Tile::kColumns || part.first_key + column >= args.dbias.shape[3]) return;
    float total = 0.0f;
    for (int w = 0; w < Tile::kWarps; ++w) total += warp_sums[w * Tile::kColumns + column];
    to[part.first_key + column] = from_float<B>(total);
  }

  template <typename B>
  __device__ __forceinline__ void finish() const {
    const TensorView& dbias = args.dbias;
    B* const to = static_cast<B*>(dbias.data) +
                  (part.batch * dbias.shape[1] + part.head) * dbias.shape[2] * dbias.shape[3];
    if (dbias.shape[2] == args.q.shape[1]) {
      write_rows_of_bias(to);
    } else {
      write_shared_row(to);
    }
  }
};

// ---------------------------------------------------------------------------------------------
// Kernel

template <typename T, int kHeadDim>
__global__ void __launch_bounds__((BiasTile<T, kHeadDim>::kThreads), 1)
    attention_bias_gradient_kernel(const AttentionBiasGradient args, const RowStatistics statistics,
                                   bool aligned) {
  using Tile = BiasTile<T, kHeadDim>;
  SharedArena arena = {ptx::dynamic_shared<unsigned char>()};
  BiasBlock<T, kHeadDim> block = {args,
                                  statistics,
                                  part_of<Tile::kRows, Tile::kColumns>(args, blockIdx.x),
                                  aligned,
                                  arena.take<T, kHeadDim>(Tile::kRows),
                                  arena.take<T, kHeadDim>(Tile::kRows),
                                  arena.take<T, kHeadDim>(Tile::kColumns),
                                  arena.take<T, kHeadDim>(Tile::kColumns),
                                  reinterpret_cast<float*>(arena.next),
                                  {}};
#pragma unroll 1
  for (int batch = block.part.batches.begin; batch < block.part.batches.end; ++batch) {
#pragma unroll 1
    for (int head = block.part.heads.begin; head < block.part.heads.end; ++head) {
      block.add_head(batch, head);
    }
  }
  if (args.dbias.dtype == DType::float32) {
    block.template finish<float>();
  } else {
    block.template finish<T>();
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T, int kHeadDim>
void launch_bias_gradient(const AttentionBiasGradient& args, const Launch& launch) {
  using Tile = BiasTile<T, kHeadDim>;
  const TensorView& dbias = args.dbias;
  const bool aligned = rows_aligned(args.q) && rows_aligned(args.k) && rows_aligned(args.v) &&
                       rows_aligned(args.dout);
  const int64_t parts = dbias.shape[0] * dbias.shape[1] * blocks_for(dbias.shape[2], Tile::kRows) *
                        blocks_for(dbias.shape[3], Tile::kColumns);
  launch_statistics<T>(args, launch);
  launch(attention_bias_gradient_kernel<T, kHeadDim>, dim3(static_cast<unsigned>(parts)),
         dim3(Tile::kThreads), Tile::kSharedBytes, args, RowStatistics::in_workspace(args),
         aligned);
}

}  // namespace

void attention_bias_gradient(const AttentionBiasGradient& args, const Execution& on) {
  const Launch launch("attention_bias_gradient", on, {&args.q, &args.k, &args.bias, &args.dbias});
  dispatch_floating(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    dispatch_head_dim<HeadDims::coarse>(
        args, [&](auto dim) { launch_bias_gradient<T, decltype(dim)::value>(args, launch); });
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
