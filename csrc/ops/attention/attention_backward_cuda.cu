// CUDA attention, backward. One kernel, seen from two sides: a block holds a tile of rows, passes
// over the tiles of columns that they see, and keeps the gradients of its rows in registers.
//
//                   rows hold   columns stream   scores        sums
//   Side::queries   q, dout     k, v             S = q k^T     dq += dS k
//   Side::keys      k, v        q, dout          S^T = k q^T   dk += dS^T q, dv += P^T dout
//
// FlashAttention-2 has the second pass only and adds dq to memory on the way, with atomics, whose
// order changes from run to run. Two passes compute the scores and dP twice, 7 products for 5. The
// ways to keep one pass and a fixed order cost more: a float32 sum of dq for each tile of keys,
// added up after, writes and reads 8 * d bytes for each query and tile of 64 keys, whose arithmetic
// is 5 * 2 * 64 * d, 80 operations a byte where an A100 has 200; and blocks that wait for their
// turn to add must all be resident. With dq in registers, no gradient touches memory before it is
// whole.
//
// With grouped heads, the sums of a key head run over its query heads, one after the other.
//
// Source: Dao, "FlashAttention-2", arXiv:2307.08691.
#include "ops/attention/attention_gradient.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

enum class Side { queries, keys };

// Extents of a block's work. Shared memory stays below the 99 KB that every GPU since sm_80 has.
template <typename T, int kHeadDim, Side kSide>
struct GradientTile {
  static constexpr bool kFloat = std::is_same_v<T, float>;
  static constexpr int kDim = kHeadDim;
  // Two row tiles a warp halve what it reads of shared memory, where registers hold their sums.
  static constexpr int kRowTiles = !kFloat && kDim <= (kSide == Side::keys ? 32 : 64) ? 2 : 1;
  static constexpr int kWarps =
      kFloat ? (kDim <= 128 ? 4 : 2) : (kDim == 96 || kDim == 128 ? 8 : 4);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kWarpRows = kRowTiles * kFragmentRows;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kColumns = kDim > (kFloat ? 64 : 128)                ? 16
                                  : !kFloat && kDim == 64 && kRowTiles == 1 ? 64
                                                                            : 32;
  // float32 takes so long over a tile that loading the next one ahead would gain little.
  static constexpr int kStages = kFloat ? 1 : 2;
  static constexpr size_t kSharedBytes = sizeof(T) * kDim * (2 * kRows + 2 * kStages * kColumns) +
                                         sizeof(float) * 2 * kStages * kColumns +
                                         (kFloat ? sizeof(float) * kRows * kColumns : 0) +
                                         sizeof(BlockPlan);
  static_assert(kSharedBytes <= 99 * 1024, "must fit into the shared memory of any GPU");
};

// Registers hold the sums of both dk and dv up to this head dimension; beyond, each has a launch.
constexpr int kWidestForTwoSums = 128;

struct AlignedViews {
  bool inputs, first, second;  // what is read; the gradients of q or k, and of v
};

// ---------------------------------------------------------------------------------------------
// Device helpers

template <typename T, int kHeadDim, Side kSide, bool kFirst, bool kSecond>
struct GradientBlock {
  using Tile = GradientTile<T, kHeadDim, kSide>;
  static constexpr bool kRowsAreKeys = kSide == Side::keys;
  const AttentionBackward& args;
  const BlockPlan& plan;
  RowStatistics statistics;
  int group;  // query heads of a key head
  AlignedViews aligned;
  SharedTile<T, kHeadDim> held_first, held_second;  // (kRows, kHeadDim)
  SharedTile<T, kHeadDim> streamed;                 // (kStages, 2, kColumns, kHeadDim)
  SharedTile<float, Tile::kColumns> staging;        // (kRows, kColumns)
  float* column_statistics;                         // (kStages, 2, kColumns): L, D of the queries
  Fragment<Tile::kRowTiles, kHeadDim> first_sum, second_sum;
  Statistic row_statistics[2 * Tile::kRowTiles];

  __device__ __forceinline__ int first_row() const { return plan.task.tile * Tile::kRows; }
  __device__ __forceinline__ int warp_row() const {
    return static_cast<int>(threadIdx.x) / kWarp * Tile::kWarpRows;
  }
  __device__ __forceinline__ int64_t statistics_at(int head, int query) const {
    return start_of_lse(args.lse, plan.task.batch, head, kRowsAreKeys ? plan.columns : plan.rows) +
           query;
  }

  // A step is one tile of columns of one head: first all that need the general treatment, then the
  // plain ones.
  struct Step {
    int head, tile;  // head: of the queries where rows are keys, else of the keys
  };
  __device__ __forceinline__ int heads() const { return kRowsAreKeys ? group : 1; }
  __device__ __forceinline__ Step step_at(int n) const {
    const int general = plan.walk.general(), first_plain = heads() * general;
    const int head = kRowsAreKeys ? plan.task.head * group : plan.task.head / group;
    if (n < first_plain) return {head + n / general, plan.walk.general_tile(n % general)};
    const int m = n - first_plain;
    return {head + m / plan.walk.plain(), plan.walk.plain_tile(m % plan.walk.plain())};
  }
  __device__ __forceinline__ int query_head(const Step& step) const {
    return kRowsAreKeys ? step.head : plan.task.head;
  }

  __device__ __forceinline__ SharedTile<T, kHeadDim> streamed_tile(int n, int which) const {
    return {streamed.data + (n % Tile::kStages * 2 + which) * Tile::kColumns * kHeadDim};
  }
  __device__ __forceinline__ float* stage_statistics(int n) const {
    return column_statistics + n % Tile::kStages * 2 * Tile::kColumns;
  }

  __device__ __forceinline__ void copy_held() const {
    const TensorView& first = kRowsAreKeys ? args.k : args.q;
    const TensorView& second = kRowsAreKeys ? args.v : args.dout;
    const int count = plan.rows.length - first_row();
    copy_rows<Tile::kRows, Tile::kThreads>(
        held_first, rows_of<const T>(first, plan.task.batch, plan.task.head, plan.rows, first_row(),
                                     count, aligned.inputs));
    if constexpr (kFirst) {  // dv needs no dP
      copy_rows<Tile::kRows, Tile::kThreads>(
          held_second, rows_of<const T>(second, plan.task.batch, plan.task.head, plan.rows,
                                        first_row(), count, aligned.inputs));
    }
  }

  __device__ __forceinline__ void copy_step(int n) const {
    const Step step = step_at(n);
    const TensorView& first = kRowsAreKeys ? args.q : args.k;
    const TensorView& second = kRowsAreKeys ? args.dout : args.v;
    const int begin = step.tile * Tile::kColumns, count = plan.columns.length - begin;
    copy_rows<Tile::kColumns, Tile::kThreads>(
        streamed_tile(n, 0), rows_of<const T>(first, plan.task.batch, step.head, plan.columns,
                                              begin, count, aligned.inputs));
    copy_rows<Tile::kColumns, Tile::kThreads>(
        streamed_tile(n, 1), rows_of<const T>(second, plan.task.batch, step.head, plan.columns,
                                              begin, count, aligned.inputs));
    const int i = static_cast<int>(threadIdx.x);
    if (kRowsAreKeys && i < Tile::kColumns) {
      const bool valid = i < count;
      const int64_t at = statistics_at(step.head, begin) + (valid ? i : 0);
      ptx::cp_async_4(stage_statistics(n) + i, statistics.log_sum + at, valid);
      ptx::cp_async_4(stage_statistics(n) + Tile::kColumns + i, statistics.dot + at, valid);
    }
  }

  // Where rows are keys, each step brings its own.
  __device__ __forceinline__ void load_row_statistics() {
#pragma unroll
    for (int r = 0; r < 2 * Tile::kRowTiles && !kRowsAreKeys; ++r) {
      const int row = first_row() + warp_row() + 8 * r + group_of_lane();
      const int64_t at = statistics_at(plan.task.head, row);
      const bool valid = row < plan.rows.length;
      row_statistics[r] = {valid ? statistics.log_sum[at] : 0.0f,
                           valid ? statistics.dot[at] : 0.0f};
    }
  }

  // Adds what step n contributes to the gradients of this warp's rows.
  template <bool kGeneral>
  __device__ __forceinline__ void add_step(int n) {
    const Step step = step_at(n);
    const Place place = {plan.task.batch, query_head(step), first_row() + warp_row(),
                         step.tile * Tile::kColumns};
    const float* const staged = stage_statistics(n);
    const auto statistic_of = [&](int r, int column, int e) {
      const int at = 8 * column + 2 * pair_of_lane() + e % 2;
      return kRowsAreKeys ? Statistic{staged[at], staged[Tile::kColumns + at]}
                          : row_statistics[2 * r + e / 2];
    };
    Fragment<Tile::kRowTiles, Tile::kColumns> scores, products;
    const int d = columns_of(args.q), dv = columns_of(args.v);
    multiply_transposed(held_first, warp_row(), streamed_tile(n, 0), d, scores);
    const auto keep = prepare_scores<T, kGeneral, kRowsAreKeys>(args, plan.band, place, scores);
    if (kFirst) multiply_transposed(held_second, warp_row(), streamed_tile(n, 1), dv, products);
    differentiate<T, kGeneral>(args, statistic_of, keep, scores, products);
    if (kSecond) multiply(scores, staging, warp_row(), streamed_tile(n, 1), dv, second_sum);
    if (kFirst) multiply(products, staging, warp_row(), streamed_tile(n, 0), d, first_sum);
  }

  // Steps `begin` to `end` - 1 of `steps`. The first is on the way.
  template <bool kGeneral>
  __device__ __forceinline__ void visit(int begin, int end, int steps) {
    const bool active = first_row() + warp_row() < plan.band.rows;
#pragma unroll 1
    for (int n = begin; n < end; ++n) {
      if (Tile::kStages == 2 && n + 1 < steps) copy_step(n + 1);
      ptx::cp_async_commit();
      ptx::cp_async_wait<Tile::kStages == 2 ? 1 : 0>();
      __syncthreads();  // the step's columns are there
      if (active) add_step<kGeneral>(n);
      __syncthreads();  // and nobody reads them any more
      if (Tile::kStages == 1 && n + 1 < steps) copy_step(n + 1);
    }
  }

  // Writes a gradient through `tile`, of which the warp overwrites its own rows only.
  __device__ __forceinline__ void finish(const Fragment<Tile::kRowTiles, kHeadDim>& sum,
                                         const SharedTile<T, kHeadDim>& tile, float scale,
                                         const TensorView& gradient, bool gradient_aligned) const {
    if (gradient.data == nullptr) return;
    const int row = first_row() + warp_row();
    stage_fragment(sum, tile, warp_row(), [&](int r) {
      return row + 8 * r + group_of_lane() < plan.band.rows ? scale : 0.0f;
    });
    const int left = clamped(plan.rows.extent - row, 0, Tile::kWarpRows);
    write_rows(tile, warp_row(),
               rows_of<T>(gradient, plan.task.batch, plan.task.head, plan.rows, row, left,
                          gradient_aligned));
  }
};

// ---------------------------------------------------------------------------------------------
// Kernel

template <typename T, int kHeadDim, Side kSide, bool kFirst, bool kSecond>
__global__ void __launch_bounds__((GradientTile<T, kHeadDim, kSide>::kThreads), 1)
    attention_gradient_kernel(const AttentionBackward args, const RowStatistics statistics,
                              const TaskOrder order, const AlignedViews aligned) {
  using Tile = GradientTile<T, kHeadDim, kSide>;
  constexpr bool kRowsAreKeys = kSide == Side::keys;
  SharedArena arena = {ptx::dynamic_shared<unsigned char>()};
  const auto held_first = arena.take<T, kHeadDim>(Tile::kRows);
  const auto held_second = arena.take<T, kHeadDim>(Tile::kRows);
  const auto streamed = arena.take<T, kHeadDim>(2 * Tile::kStages * Tile::kColumns);
  const auto staging = arena.take<float, Tile::kColumns>(Tile::kFloat ? Tile::kRows : 0);
  BlockPlan* const plan = reinterpret_cast<BlockPlan*>(arena.next);
  make_plan<kRowsAreKeys, Tile::kRows, Tile::kColumns>(args, order, plan);
  GradientBlock<T, kHeadDim, kSide, kFirst, kSecond> block = {
      args,        *plan,
      statistics,  static_cast<int>(args.q.shape[2] / args.k.shape[2]),
      aligned,     held_first,
      held_second, streamed,
      staging,     reinterpret_cast<float*>(plan + 1),
      {},          {},
      {}};
  if (block.first_row() >= plan->rows.extent) return;
  const int general = block.heads() * plan->walk.general();
  const int steps = general + block.heads() * plan->walk.plain();
  if (steps > 0) {
    block.copy_held();
    block.copy_step(0);
    ptx::cp_async_commit();
    block.load_row_statistics();
  }
  block.template visit<true>(0, general, steps);
  block.template visit<false>(general, steps, steps);
  if (kFirst) {
    block.finish(block.first_sum, block.held_first, args.scale, kRowsAreKeys ? args.dk : args.dq,
                 aligned.first);
  }
  if (kSecond) {
    block.finish(block.second_sum, block.held_first, 1.0f, args.dv, aligned.second);
  }
}

// ---------------------------------------------------------------------------------------------
// Launchers

template <typename T, int kHeadDim, Side kSide, bool kFirst, bool kSecond>
void launch_gradient(const AttentionBackward& args, const Launch& launch) {
  using Tile = GradientTile<T, kHeadDim, kSide>;
  const TensorView& rows = kSide == Side::keys ? args.k : args.q;
  const TensorView& columns = kSide == Side::keys ? args.q : args.k;
  const int64_t group = query_heads_of_key_head(args);
  const int64_t head_bytes =
      kSide == Side::keys ? bytes_of_two(columns) * group : bytes_of_two(columns) / group;
  const TaskOrder order = task_order(rows.shape[1], Tile::kRows, rows.shape[0], rows.shape[2],
                                     head_bytes, kSide == Side::queries);
  const AlignedViews aligned = {rows_aligned(args.q) && rows_aligned(args.k) &&
                                    rows_aligned(args.v) && rows_aligned(args.dout),
                                rows_aligned(kSide == Side::keys ? args.dk : args.dq),
                                rows_aligned(args.dv)};
  launch(attention_gradient_kernel<T, kHeadDim, kSide, kFirst, kSecond>, dim3(order.blocks()),
         dim3(Tile::kThreads), Tile::kSharedBytes, args, RowStatistics::in_workspace(args), order,
         aligned);
}

template <typename T, int kHeadDim>
void launch_backward(const AttentionBackward& args, const Launch& launch) {
  launch_statistics<T>(args, launch);
  if (args.dq.data != nullptr) {
    launch_gradient<T, kHeadDim, Side::queries, true, false>(args, launch);
  }
  if constexpr (kHeadDim > kWidestForTwoSums) {
    if (args.dk.data != nullptr) {
      launch_gradient<T, kHeadDim, Side::keys, true, false>(args, launch);
    }
    if (args.dv.data != nullptr) {
      launch_gradient<T, kHeadDim, Side::keys, false, true>(args, launch);
    }
  } else if (args.dk.data != nullptr || args.dv.data != nullptr) {
    launch_gradient<T, kHeadDim, Side::keys, true, true>(args, launch);
  }
}

}  // namespace

void attention_backward(const AttentionBackward& args, const Execution& on) {
  const Launch launch("attention_backward", on, {&args.q, &args.k, &args.v, &args.dout});
  dispatch_floating(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    dispatch_head_dim<kHeadDimsOf<T>>(
        args, [&](auto dim) { launch_backward<T, decltype(dim)::value>(args, launch); });
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
