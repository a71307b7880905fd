// What the backward kernels share: the statistics of each query, and dS of a tile of scores.
//
// With the statistics L = -lse and D = rowsum(dout * out), of each query, a score gives
//   P = exp(s + L),  dS = P * (keep * dP - D).
#pragma once

#include "ops/attention/attention_launch.cuh"
#include "ops/attention/attention_products.cuh"
#include "ops/attention/attention_scores.cuh"

namespace pymodel::PYMODEL_BACKEND {

// ---------------------------------------------------------------------------------------------
// Statistics of the queries

// In the workspace, indexed like the memory of lse.
struct RowStatistics {
  float* log_sum;  // (batch, heads, Sq): L in units of log2(e); -inf where a query sees nothing
  float* dot;      // (batch, heads, Sq): D

  static RowStatistics in_workspace(const AttentionInputs& args) {
    float* const first = static_cast<float*>(args.workspace);
    return {first, first + attention_statistics_rows(args)};
  }
};

constexpr int kStatisticsLanes = 16;  // of one row; each takes kSumLength columns
constexpr int kStatisticsThreads = 128;
constexpr int kStatisticsRows = kStatisticsThreads / kStatisticsLanes;
static_assert(kStatisticsLanes * kSumLength >= kAttentionDeviceHeadDim, "one part for each lane");

// D is summed in the order of the product that gives dP, so that in float32, where a query sees one
// key only and its output is that value, dP - D is exactly zero. Packed sequences are one batch
// here.
template <typename T>
__global__ void __launch_bounds__(kStatisticsThreads)
    attention_statistics_kernel(const TensorView out, const TensorView dout, const float* lse,
                                const RowStatistics statistics, int64_t rows, int64_t extent) {
  const int64_t index =
      static_cast<int64_t>(blockIdx.x) * kStatisticsRows + threadIdx.x / kStatisticsLanes;
  const int64_t row = index < rows ? index : rows - 1;  // all lanes take part in the shuffles
  const int64_t i = row % extent, unit = row / extent;
  const int64_t head = unit % out.shape[2], batch = unit / out.shape[2];
  const int columns = static_cast<int>(out.shape[3]);
  const T* const a = rows_of<const T>(out, batch, head, i, 1, false).data;
  const T* const b = rows_of<const T>(dout, batch, head, i, 1, false).data;
  const int lane = lane_of_thread() % kStatisticsLanes, first = lane * kSumLength;
  float part = 0.0f;
  for (int j = first; j < first + kSumLength && j < columns; ++j) {
    part = fmaf(to_float(a[j]), to_float(b[j]), part);
  }
  float dot = 0.0f;
  for (int source = 0; source * kSumLength < columns; ++source) {
    dot += __shfl_sync(kFullMask, part, lane_of_thread() - lane + source);
  }
  if (index >= rows || lane != 0) return;
  statistics.dot[row] = dot;
  statistics.log_sum[row] = lse[row] == -INFINITY ? -INFINITY : -lse[row] * kLog2E;
}

// Args is AttentionBackward or AttentionBiasGradient.
template <typename T, typename Args>
void launch_statistics(const Args& args, const Launch& launch) {
  const int64_t rows = attention_statistics_rows(args);
  const int64_t extent = args.query_offsets.data != nullptr ? args.packed_queries : args.q.shape[1];
  launch(attention_statistics_kernel<T>, dim3(blocks_for(rows, kStatisticsRows)),
         dim3(kStatisticsThreads), 0, args.out, args.dout, static_cast<const float*>(args.lse.data),
         RowStatistics::in_workspace(args), rows, extent);
}

// ---------------------------------------------------------------------------------------------
// dS

struct Statistic {
  float log_sum, dot;
};

// Finishes the scores of a tile that is not plain and draws its dropout; a plain tile has neither
// mask nor bias nor dropout. It stands apart from what follows so that dP need not yet be there,
// in registers that are scarce.
template <typename T, bool kGeneral, bool kRowsAreKeys, int kRowTiles, int kColumns>
__device__ __forceinline__ KeepBits<kRowTiles, kColumns> prepare_scores(
    const AttentionInputs& args, const Band& band, const Place& place,
    Fragment<kRowTiles, kColumns>& scores) {
  KeepBits<kRowTiles, kColumns> keep;
  if constexpr (kGeneral) {
    finish_scores<T, kRowsAreKeys>(args, band, place, scores);
    if (args.dropout.active) keep = keep_bits<kRowsAreKeys, kRowTiles, kColumns>(args, place);
  }
  return keep;
}

// From prepared scores and the products of dout and v: `scores` become keep * P, `products` dS.
// statistic_of(r, n, e) gives that of the query of a fragment's element.
template <typename T, bool kGeneral, int kRowTiles, int kColumns, typename StatisticOf>
__device__ __forceinline__ void differentiate(const AttentionInputs& args,
                                              const StatisticOf& statistic_of,
                                              const KeepBits<kRowTiles, kColumns>& keep,
                                              Fragment<kRowTiles, kColumns>& scores,
                                              Fragment<kRowTiles, kColumns>& products) {
  const float scale = kGeneral ? 1.0f : args.scale * kLog2E;
  for_each_element<kRowTiles, kColumns>([&](int r, int n, int e) {
    const Statistic statistic = statistic_of(r, n, e);
    const bool hidden = kGeneral && scores.at[r][n][e] == -INFINITY;
    const float p = exponential<T>(fmaf(scores.at[r][n][e], scale, statistic.log_sum));
    float factor = 1.0f;
    if (kGeneral) factor = keep.keeps(r, n, e) ? args.dropout.factor : 0.0f;
    const float ds = p * fmaf(factor, products.at[r][n][e], -statistic.dot);
    scores.at[r][n][e] = p * factor;
    products.at[r][n][e] = hidden ? 0.0f : ds;  // a hidden value may be NaN
  });
}

}  // namespace pymodel::PYMODEL_BACKEND
