// CUDA attention, forward, in the structure of FlashAttention-2: a block holds a tile of queries
// and passes over the keys that they see, keeping the running maximum, sum and output of each query
// in registers. While the scores of a tile of keys are computed their values are on the way, and
// the next keys while the values are summed.
//
// Source: Dao, "FlashAttention-2", arXiv:2307.08691.
#include "ops/attention/attention_launch.cuh"
#include "ops/attention/attention_products.cuh"
#include "ops/attention/attention_scores.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// Extents of a block's work. Shared memory stays below the 99 KB that every GPU since sm_80 has.
template <typename T, int kHeadDim>
struct ForwardTile {
  static constexpr bool kFloat = std::is_same_v<T, float>;
  static constexpr int kDim = kHeadDim;
  static constexpr int kRowTiles = kFloat || kDim > 128 ? 1 : 2;
  static constexpr int kWarps = kDim <= 128 ? 4 : (kFloat ? 2 : 8);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kWarpRows = kRowTiles * kFragmentRows;
  static constexpr int kRows = kWarps * kWarpRows;  // queries
  static constexpr int kColumns = kDim <= 64 ? 64
                                             : (kDim <= 128 ? 32  // keys
                                                            : (kFloat ? 16 : 32));
  static constexpr size_t kSharedBytes = sizeof(T) * kDim * (kRows + 2 * kColumns) +
                                         (kFloat ? sizeof(float) * kRows * kColumns : 0) +
                                         sizeof(BlockPlan);
  static_assert(kSharedBytes <= 99 * 1024, "must fit into the shared memory of any GPU");
};

struct AlignedRows {
  bool inputs, out;
};

// ---------------------------------------------------------------------------------------------
// Device helpers

// The online softmax of a warp's rows.
template <typename T, typename Tile>
struct RunningSoftmax {
  Fragment<Tile::kRowTiles, Tile::kDim> out;  // sums of weight * v
  float maximum[2 * Tile::kRowTiles];         // of the scores, in units of log2(e)
  float total[2 * Tile::kRowTiles];           // this lane's part of the sum of weights

  // Takes in a tile of scores, which becomes weights. Products of q and k arrive where `scale`
  // brings them to units of log2(e); finished scores come with a scale of 1.
  __device__ __forceinline__ void update(Fragment<Tile::kRowTiles, Tile::kColumns>& scores,
                                         float scale) {
#pragma unroll
    for (int r = 0; r < 2 * Tile::kRowTiles; ++r) {
      float best = -INFINITY;
#pragma unroll
      for (int n = 0; n < Tile::kColumns / 8; ++n) {
        const float* const pair = scores.at[r / 2][n] + 2 * (r % 2);
        best = fmaxf(best, fmaxf(pair[0], pair[1]));
      }
      best = fmaxf(maximum[r], row_reduce<Maximum>(best) * scale);
      // Without a finite score yet, exp2(-inf - 0) = 0 where exp2(-inf - -inf) would be NaN.
      const float shift = best == -INFINITY ? 0.0f : best;
      const float rescale = exponential<T>(maximum[r] - shift);
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < Tile::kColumns / 8; ++n) {
        float* const pair = scores.at[r / 2][n] + 2 * (r % 2);
        pair[0] = exponential<T>(fmaf(pair[0], scale, -shift));
        pair[1] = exponential<T>(fmaf(pair[1], scale, -shift));
        sum += pair[0] + pair[1];
      }
      total[r] = fmaf(total[r], rescale, sum);
      maximum[r] = best;
#pragma unroll
      for (int n = 0; n < Tile::kDim / 8; ++n) {
        out.at[r / 2][n][2 * (r % 2)] *= rescale;
        out.at[r / 2][n][2 * (r % 2) + 1] *= rescale;
      }
    }
  }
};

template <typename T, int kHeadDim>
struct ForwardBlock {
  using Tile = ForwardTile<T, kHeadDim>;
  const AttentionForward& args;
  const BlockPlan& plan;
  AlignedRows aligned;
  SharedTile<T, kHeadDim> q, k, v;
  SharedTile<float, Tile::kColumns> staging;
  RunningSoftmax<T, Tile> softmax;

  __device__ __forceinline__ int first_row() const { return plan.task.tile * Tile::kRows; }
  __device__ __forceinline__ int warp_row() const {
    return static_cast<int>(threadIdx.x) / kWarp * Tile::kWarpRows;
  }

  __device__ __forceinline__ void copy_queries() const {
    copy_rows<Tile::kRows, Tile::kThreads>(
        q, rows_of<const T>(args.q, plan.task.batch, plan.task.head, plan.rows, first_row(),
                            plan.rows.length - first_row(), aligned.inputs));
  }
  __device__ __forceinline__ void copy_keys(const SharedTile<T, kHeadDim>& to,
                                            const TensorView& from, int tile) const {
    const int first = tile * Tile::kColumns;
    const int key_head = plan.task.head / static_cast<int>(args.q.shape[2] / args.k.shape[2]);
    copy_rows<Tile::kColumns, Tile::kThreads>(
        to, rows_of<const T>(from, plan.task.batch, key_head, plan.columns, first,
                             plan.columns.length - first, aligned.inputs));
  }

  // The n-th tile of keys of the walk.
  __device__ __forceinline__ int tile_at(int n) const {
    const TileWalk& walk = plan.walk;
    return n < walk.general() ? walk.general_tile(n) : walk.plain_tile(n - walk.general());
  }

  // Visits the tiles of keys from `begin` to `end` - 1 of the walk. The first keys are on the way.
  template <bool kGeneral>
  __device__ __forceinline__ void visit(int begin, int end) {
    const int tiles = plan.walk.general() + plan.walk.plain();
    const bool active = first_row() + warp_row() < plan.band.rows;
#pragma unroll 1
    for (int n = begin; n < end; ++n) {
      ptx::cp_async_wait<0>();
      __syncthreads();  // the keys are there, and nobody reads the last values any more
      copy_keys(v, args.v, tile_at(n));
      ptx::cp_async_commit();
      Fragment<Tile::kRowTiles, Tile::kColumns> scores;
      if (active) score<kGeneral>(tile_at(n), scores);
      ptx::cp_async_wait<0>();
      __syncthreads();  // the values are there, and nobody reads the keys any more
      if (n + 1 < tiles) copy_keys(k, args.k, tile_at(n + 1));
      ptx::cp_async_commit();
      if (active) multiply(scores, staging, warp_row(), v, columns_of(args.v), softmax.out);
    }
  }

  // The weights of a tile of keys, after dropout but for its factor.
  template <bool kGeneral>
  __device__ __forceinline__ void score(int tile,
                                        Fragment<Tile::kRowTiles, Tile::kColumns>& scores) {
    multiply_transposed(q, warp_row(), k, columns_of(args.q), scores);
    if constexpr (!kGeneral) {
      softmax.update(scores, args.scale * kLog2E);
    } else {
      const Place place = {plan.task.batch, plan.task.head, first_row() + warp_row(),
                           tile * Tile::kColumns};
      finish_scores<T, false>(args, plan.band, place, scores);
      softmax.update(scores, 1.0f);
      if (!args.dropout.active) return;  // after the sum: first normalised, then thinned
      const auto keep = keep_bits<false, Tile::kRowTiles, Tile::kColumns>(args, place);
      for_each_element<Tile::kRowTiles, Tile::kColumns>([&](int r, int n, int e) {
        if (!keep.keeps(r, n, e)) scores.at[r][n][e] = 0.0f;
      });
    }
  }

  __device__ __forceinline__ void finish() {
    const int row = first_row() + warp_row();
#pragma unroll
    for (int r = 0; r < 2 * Tile::kRowTiles; ++r) {
      softmax.total[r] = row_reduce<Sum>(softmax.total[r]);
    }
    stage_fragment(softmax.out, q, warp_row(), [&](int r) {
      const bool sees = row + 8 * r + group_of_lane() < plan.band.rows && softmax.total[r] != 0.0f;
      return sees ? args.dropout.factor / softmax.total[r] : 0.0f;
    });
    const int left = clamped(plan.rows.extent - row, 0, Tile::kWarpRows);
    write_rows(
        q, warp_row(),
        rows_of<T>(args.out, plan.task.batch, plan.task.head, plan.rows, row, left, aligned.out));
    if (pair_of_lane() != 0) return;
    float* const lse = static_cast<float*>(args.lse.data) +
                       start_of_lse(args.lse, plan.task.batch, plan.task.head, plan.rows) + row;
#pragma unroll
    for (int r = 0; r < 2 * Tile::kRowTiles; ++r) {
      const int i = 8 * r + group_of_lane();
      if (i >= left) continue;
      const bool sees = row + i < plan.band.rows && softmax.total[r] != 0.0f;
      lse[i] = sees ? fmaf(softmax.maximum[r], kLn2, logf(softmax.total[r])) : -INFINITY;
    }
  }
};

// Whether the offsets of a packed sequence follow each other from 0 to the end of memory.
__device__ __forceinline__ bool offsets_fit(const TensorView& offsets, int64_t batch,
                                            int64_t packed_rows, int64_t longest) {
  const int64_t begin = attention_integer(offsets, batch);
  const int64_t end = attention_integer(offsets, batch + 1);
  const bool first_fits = batch > 0 || begin == 0;
  const bool last_fits = batch + 2 < offsets.shape[0] || end == packed_rows;
  return first_fits && last_fits && begin <= end && end - begin <= longest;
}

__device__ __forceinline__ void check_offsets(const AttentionForward& args, int64_t batch) {
  if (args.query_offsets.data == nullptr || threadIdx.x != 0) return;
  if (!offsets_fit(args.query_offsets, batch, args.packed_queries, args.q.shape[1]) ||
      !offsets_fit(args.key_offsets, batch, args.packed_keys, args.k.shape[1])) {
    report_fault(args.fault, batch);
  }
}

// ---------------------------------------------------------------------------------------------
// Kernel

template <typename T, int kHeadDim>
__global__ void __launch_bounds__((ForwardTile<T, kHeadDim>::kThreads), 1)
    attention_forward_kernel(const AttentionForward args, const TaskOrder order,
                             const AlignedRows aligned) {
  using Tile = ForwardTile<T, kHeadDim>;
  SharedArena arena = {ptx::dynamic_shared<unsigned char>()};
  const auto q = arena.take<T, kHeadDim>(Tile::kRows);
  const auto k = arena.take<T, kHeadDim>(Tile::kColumns);
  const auto v = arena.take<T, kHeadDim>(Tile::kColumns);
  const auto staging = arena.take<float, Tile::kColumns>(Tile::kFloat ? Tile::kRows : 0);
  BlockPlan* const plan = reinterpret_cast<BlockPlan*>(arena.next);
  make_plan<false, Tile::kRows, Tile::kColumns>(args, order, plan);
  if (plan->task.tile == 0 && plan->task.head == 0) check_offsets(args, plan->task.batch);
  ForwardBlock<T, kHeadDim> block = {args, *plan, aligned, q, k, v, staging, {}};
  if (block.first_row() >= plan->rows.extent) return;
#pragma unroll
  for (int r = 0; r < 2 * Tile::kRowTiles; ++r) {
    block.softmax.maximum[r] = -INFINITY;
    block.softmax.total[r] = 0.0f;
  }
  const int general = plan->walk.general(), tiles = general + plan->walk.plain();
  if (tiles > 0) {
    block.copy_queries();
    block.copy_keys(block.k, args.k, block.tile_at(0));
    ptx::cp_async_commit();
  }
  block.template visit<true>(0, general);
  block.template visit<false>(general, tiles);
  block.finish();
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T, int kHeadDim>
void launch_forward(const AttentionForward& args, const Launch& launch) {
  using Tile = ForwardTile<T, kHeadDim>;
  const TaskOrder order = task_order(args.q.shape[1], Tile::kRows, args.q.shape[0], args.q.shape[2],
                                     bytes_of_two(args.k) / query_heads_of_key_head(args), true);
  const AlignedRows aligned = {rows_aligned(args.q) && rows_aligned(args.k) && rows_aligned(args.v),
                               rows_aligned(args.out)};
  launch(attention_forward_kernel<T, kHeadDim>, dim3(order.blocks()), dim3(Tile::kThreads),
         Tile::kSharedBytes, args, order, aligned);
}

}  // namespace

void attention_forward(const AttentionForward& args, const Execution& on) {
  const Launch launch("attention_forward", on, {&args.q, &args.k, &args.v, &args.out});
  dispatch_floating(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    dispatch_head_dim<kHeadDimsOf<T>>(
        args, [&](auto dim) { launch_forward<T, decltype(dim)::value>(args, launch); });
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
