// The loops of all reductions, for any Reducer (reducers.cuh).
//
// Where the reduced dimensions are dense, or nothing is, a team of threads runs along the elements
// of each output ("rows"); where the kept dimensions are dense, each thread runs down the columns
// of one slot of outputs ("columns"). Few outputs of many elements are cut into chunks, whose
// partial results a second kernel joins. All of this follows from shapes and strides alone, and
// sums are joined in a fixed order: the bits depend neither on the GPU nor on the run.
#pragma once

#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "ops/elementwise/slots.cuh"
#include "ops/reduce/reducers.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr int kReduceThreads = 256;

// One launch: what its outputs take in, and where results go.
struct Reduction {
  Slots<3> kept;     // x, out, center; one slot for each output, or for a vector of them (columns)
  Slots<1> reduced;  // of x, counted from the first element of an output
  int64_t outputs = 0;
  uint32_t chunk = 0, chunks = 1;         // slots of a chunk; chunks of this launch
  int64_t first_chunk = 0;                // of this launch among all
  int64_t out_step = 0, center_step = 0;  // in bytes, from one output to the next within a slot
  bool partial = false;                   // results go to the workspace
  void* workspace = nullptr;              // (all chunks, outputs) Partials
  Finish finish;
};

// ---------------------------------------------------------------------------------------------
// Device helpers

// Joins the values of `team` neighbouring threads, a power of two up to 32, or of the whole block.
template <typename Reducer>
__device__ __forceinline__ typename Reducer::Partial join_team(const Reducer& reducer, int team,
                                                               typename Reducer::Partial value) {
  __shared__ typename Reducer::Partial warps[kReduceThreads / kWarp];
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    if (step < team) value = reducer.join(value, __shfl_xor_sync(kFullMask, value, step));
  }
  if (team <= kWarp) return value;
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = warps[0];
#pragma unroll
  for (int w = 1; w < kReduceThreads / kWarp; ++w) value = reducer.join(value, warps[w]);
  return value;
}

// Joins, for every i, values[i] of the threads that differ by multiples of `lanes`, a power of two;
// the first `lanes` threads get the results.
template <typename Reducer, int width>
__device__ __forceinline__ void join_columns(const Reducer& reducer, int lanes,
                                             typename Reducer::Partial (&values)[width]) {
  __shared__ typename Reducer::Partial shared[width][kReduceThreads];
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < width; ++i) shared[i][thread] = values[i];
  for (int half = kReduceThreads / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      values[i] = reducer.join(values[i], shared[i][thread + half]);
      shared[i][thread] = values[i];
    }
  }
}

template <typename Reducer>
__device__ __forceinline__ void put(const Reducer& reducer, const Reduction& job, int64_t output,
                                    uint32_t chunk, char* out, typename Reducer::Partial value) {
  if (!job.partial) return reducer.write(job.finish, out, value);
  const int64_t row = job.first_chunk + chunk;
  static_cast<typename Reducer::Partial*>(job.workspace)[row * job.outputs + output] = value;
}

// ---------------------------------------------------------------------------------------------
// Kernels

// `team` threads for each output; blocks count chunks first, then outputs.
template <typename Reducer, int width>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_rows_kernel(const Reduction job, const Reducer reducer, int team) {
  const int lane = static_cast<int>(threadIdx.x) % team;
  const uint32_t teams = kReduceThreads / static_cast<uint32_t>(team);
  const uint32_t chunk = blockIdx.x % job.chunks;
  const int64_t output = int64_t{blockIdx.x / job.chunks} * teams + threadIdx.x / team;
  const bool valid = output < job.outputs;
  // Threads without an output of their own read that of output 0, and write nothing.
  const Place<3> place = locate<1>(job.kept, valid ? static_cast<uint32_t>(output) : 0);
  const float shift = place.at[2] != nullptr ? *reinterpret_cast<const float*>(place.at[2]) : 0.0f;
  float center[width];
#pragma unroll
  for (int i = 0; i < width; ++i) center[i] = shift;
  char* const x[1] = {place.at[0]};
  typename Reducer::State state[1] = {reducer.start()};
  const uint32_t begin = chunk * job.chunk, left = job.reduced.count - begin;
  const uint32_t end = begin + (left < job.chunk ? left : job.chunk);
  for (uint32_t slot = begin + lane; slot < end; slot += team) {
    const Place<1> element = locate<width>(job.reduced, slot, x);
    typename Reducer::Raw raw[width];
    reducer.read(element.at[0], element.count, raw);
    reducer.take(raw, element.count, center, state);
  }
  const auto value = join_team(reducer, team, reducer.partial(state[0]));
  if (valid && lane == 0) put(reducer, job, output, chunk, place.at[1], value);
}

// `lanes` threads side by side take `lanes` slots of outputs; the others of the block take other
// rows of the same columns. Blocks count chunks first, then strips of `lanes` slots.
template <typename Reducer, int width>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_columns_kernel(const Reduction job, const Reducer reducer, uint32_t lanes) {
  const uint32_t strips = (job.kept.extents[0].value + lanes - 1) / lanes;
  const uint32_t chunk = blockIdx.x % job.chunks, strip = blockIdx.x / job.chunks % strips;
  const uint32_t row = blockIdx.x / job.chunks / strips;
  const uint32_t column_slot = strip * lanes + threadIdx.x % lanes;
  const bool valid = column_slot < job.kept.extents[0].value;
  const Place<3> place =
      locate<width>(job.kept, row * job.kept.extents[0].value + (valid ? column_slot : 0));
  typename Reducer::State states[width];
  float center[width];
#pragma unroll
  for (int i = 0; i < width; ++i) {
    const bool given = place.at[2] != nullptr && i < place.count;
    const char* at = place.at[2] + (given ? i * job.center_step : 0);
    center[i] = given ? *reinterpret_cast<const float*>(at) : 0.0f;
    states[i] = reducer.start();
  }
  char* const x[1] = {place.at[0]};
  const uint32_t begin = chunk * job.chunk, left = job.reduced.count - begin;
  const uint32_t end = begin + (left < job.chunk ? left : job.chunk);
  const uint32_t step = kReduceThreads / lanes;
  for (uint32_t r = begin + threadIdx.x / lanes; r < end; r += Reducer::kAhead * step) {
    typename Reducer::Raw raw[Reducer::kAhead][width];
#pragma unroll
    for (uint32_t a = 0; a < Reducer::kAhead; ++a) {
      if (a * step >= end - r) break;
      reducer.read(locate<1>(job.reduced, r + a * step, x).at[0], place.count, raw[a]);
    }
#pragma unroll
    for (uint32_t a = 0; a < Reducer::kAhead; ++a) {
      if (a * step < end - r) reducer.take(raw[a], place.count, center, states);
    }
  }
  typename Reducer::Partial values[width];
#pragma unroll
  for (int i = 0; i < width; ++i) values[i] = reducer.partial(states[i]);
  join_columns(reducer, static_cast<int>(lanes), values);
  if (!valid || threadIdx.x >= lanes) return;
  const int64_t output = int64_t{row} * job.kept.inner + int64_t{column_slot} * width;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if (i < place.count) {
      put(reducer, job, output + i, chunk, place.at[1] + i * job.out_step, values[i]);
    }
  }
}

// Joins the partial results of `job`, whose first_chunk is the number of all chunks. `lanes`
// threads side by side take one output each, the others of the block other chunks of the same.
template <typename Reducer>
__global__ void __launch_bounds__(kReduceThreads)
    join_chunks_kernel(const Reduction job, const Reducer reducer, uint32_t lanes) {
  const int64_t output = int64_t{blockIdx.x} * lanes + threadIdx.x % lanes;
  const bool valid = output < job.outputs;
  typename Reducer::Partial value[1] = {reducer.partial(reducer.start())};
  const auto* from = static_cast<const typename Reducer::Partial*>(job.workspace) + output;
  const int64_t chunks = valid ? job.first_chunk : 0;
  for (int64_t c = threadIdx.x / lanes; c < chunks; c += kReduceThreads / lanes) {
    value[0] = reducer.join(value[0], from[c * job.outputs]);
  }
  join_columns(reducer, static_cast<int>(lanes), value);
  if (!valid || threadIdx.x >= lanes) return;
  reducer.write(job.finish, locate<1>(job.kept, static_cast<uint32_t>(output)).at[1], value[0]);
}

}  // namespace pymodel::PYMODEL_BACKEND
