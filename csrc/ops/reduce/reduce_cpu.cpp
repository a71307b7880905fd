// CPU reductions of floats. Where the reduced dimensions are dense, each output runs along them
// ("rows"); where the kept ones are, a strip of outputs runs down together ("columns").
#include "cpu/math.h"
#include "ops/reduce/reduce.h"
#include "ops/reduce/reduce_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

constexpr int64_t kStrip = 128;        // outputs side by side: eight cache lines of each row
constexpr int64_t kRowGroup = 32;      // rows added one by one before they enter the pairwise sums
constexpr int kLevels = 40;            // enough for 2^40 groups
constexpr int64_t kGroupsEnough = 32;  // independent outputs or strips that need no chunks

// ---------------------------------------------------------------------------------------------
// Single operations

template <ReduceOp op>
PYMODEL_INLINE float identity() {
  if constexpr (op == ReduceOp::max) return -__builtin_inff();
  if constexpr (op == ReduceOp::min) return __builtin_inff();
  return 0.0f;
}

// What an element contributes.
template <ReduceOp op>
PYMODEL_INLINE Vec contribution(Vec x, Vec center) {
  if constexpr (op == ReduceOp::max_abs) return abs(x);
  if constexpr (op == ReduceOp::squared_deviation) return (x - center) * (x - center);
  return x;
}

template <ReduceOp op>
PYMODEL_INLINE Vec combine(Vec a, Vec b) {
  if constexpr (op == ReduceOp::sum || op == ReduceOp::squared_deviation) return a + b;
  if constexpr (op == ReduceOp::min) return select(a != a, a, min(a, b));
  return select(a != a, a, max(a, b));
}

template <ReduceOp op>
PYMODEL_INLINE float combine_lanes(Vec v) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Vec upper = v;
    for (int i = 0; i < half; ++i) upper[i] = v[i + half];
    v = combine<op>(v, upper);
  }
  return v[0];
}

// ---------------------------------------------------------------------------------------------
// Rows

// Partial results in pairs: level i holds the result of 2^i pushes.
template <ReduceOp op>
struct Pairwise {
  Vec level[kLevels];
  int64_t pushes = 0;

  void push(Vec value) {
    int i = 0;
    for (; (pushes >> i & 1) != 0; ++i) value = combine<op>(level[i], value);
    level[i] = value;
    ++pushes;
  }
  float result() const {
    Vec total = broadcast(identity<op>());
    for (int i = 0; pushes >> i != 0; ++i) {
      if ((pushes >> i & 1) != 0) total = combine<op>(total, level[i]);
    }
    return combine_lanes<op>(total);
  }
};

template <ReduceOp op>
static Vec reduce_block(const float* x, int64_t count, Vec center) {
  Vec totals[4];
  for (Vec& total : totals) total = broadcast(identity<op>());
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (int u = 0; u < 4; ++u) {
      totals[u] = combine<op>(totals[u], contribution<op>(load(x + i + u * kLanes), center));
    }
  }
  for (; i + kLanes <= count; i += kLanes) {
    totals[0] = combine<op>(totals[0], contribution<op>(load(x + i), center));
  }
  if (i < count) {
    float lanes[kLanes];
    store(lanes, contribution<op>(load_partial(x + i, count - i), center));
    for (int64_t lane = count - i; lane < kLanes; ++lane) lanes[lane] = identity<op>();
    totals[1] = combine<op>(totals[1], load(lanes));
  }
  return combine<op>(combine<op>(totals[0], totals[1]), combine<op>(totals[2], totals[3]));
}

template <ReduceOp op>
static float reduce_row(const ReduceFloats& args, const StridedLoop<1>& reduced, char* base,
                        float center, int64_t begin, int64_t end) {
  Pairwise<op> partials;
  float buffer[kBlock];
  const int64_t stride = reduced.inner_stride(0);
  for_each_reduced(reduced, base, begin, end, [&](const char* data, int64_t n) {
    const float* block = load_floats(args.x.dtype, data, stride, n, buffer);
    partials.push(reduce_block<op>(block, n, broadcast(center)));
  });
  return partials.result();
}

// ---------------------------------------------------------------------------------------------
// Columns

// The same pairing for a strip of outputs.
template <ReduceOp op>
struct PairwiseStrip {
  float level[kLevels][kStrip];
  float group[kStrip];
  int64_t rows = 0, pushes = 0;

  static void merge(float* into, const float* from) {
    for (int64_t j = 0; j < kStrip; j += kLanes) {
      store(into + j, combine<op>(load(from + j), load(into + j)));
    }
  }
  void push_group() {
    int i = 0;
    for (; (pushes >> i & 1) != 0; ++i) merge(group, level[i]);
    memcpy(level[i], group, sizeof group);
    ++pushes;
    clear();
  }
  void clear() {
    rows = 0;
    for (float& value : group) value = identity<op>();
  }
  void add_row(const float* x, const float* center, int64_t width) {
    for_each_vector(width, [&](int64_t j, int64_t n) {
      const Vec value = contribution<op>(load_lanes(x + j, n), load(center + j));
      store(group + j, combine<op>(load(group + j), value));
    });
    if (++rows == kRowGroup) push_group();
  }
  // Leaves the results in `group`.
  const float* finish() {
    push_group();
    for (int i = 0; pushes >> i != 0; ++i) {
      if ((pushes >> i & 1) != 0) merge(group, level[i]);
    }
    return group;
  }
};

template <ReduceOp op>
static void reduce_strip(const ReduceFloats& args, const StridedLoop<1>& reduced, char* base,
                         const float* center, int64_t width, int64_t begin, int64_t end,
                         float* results) {
  PairwiseStrip<op> partials;
  partials.clear();
  float buffer[kStrip];
  const auto item = static_cast<int64_t>(item_size(args.x.dtype));
  const int64_t stride = reduced.inner_stride(0);
  for_each_reduced(reduced, base, begin, end, [&](const char* data, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row) {
      partials.add_row(load_floats(args.x.dtype, data + row * stride, item, width, buffer), center,
                       width);
    }
  });
  memcpy(results, partials.finish(), static_cast<size_t>(width) * sizeof(float));
}

// ---------------------------------------------------------------------------------------------
// Shared by both: chunks of the reduced dimensions, partial results, output

struct Plan {
  StridedLoop<3> kept;  // x, out, center
  StridedLoop<1> reduced;
  bool columns;
  int64_t outputs, elements;  // elements of each output
  int64_t chunk, chunks;
};

static Plan make_plan(const ReduceFloats& args) {
  const TensorView kept = dims_of(args.x, 0, args.kept);
  const TensorView inner = dims_of(args.x, args.kept, args.x.ndim);
  Plan plan;
  plan.kept = make_loop<3>({&kept, &args.out, &args.center});
  plan.reduced = make_loop<1>({&inner});
  plan.outputs = plan.kept.rows() * plan.kept.inner();
  plan.elements = plan.reduced.rows() * plan.reduced.inner();
  const auto item = static_cast<int64_t>(item_size(args.x.dtype));
  const bool dense_rows = plan.reduced.inner() > 1 && plan.reduced.inner_stride(0) == item;
  plan.columns = !dense_rows && plan.kept.inner() > 1 && plan.kept.inner_stride(0) == item;
  int64_t groups = plan.outputs;
  if (plan.columns) groups = plan.kept.rows() * ((plan.kept.inner() + kStrip - 1) / kStrip);
  const int64_t least = plan.columns ? kReduceChunkRows : kTaskElements;
  const int64_t even = (plan.elements + kReduceChunks - 1) / kReduceChunks;
  plan.chunk = even > least ? even : least;
  plan.chunks = (plan.elements + plan.chunk - 1) / plan.chunk;
  if (groups >= kGroupsEnough || plan.chunks <= 1) {
    plan.chunk = plan.elements;
    plan.chunks = 1;
  }
  return plan;
}

// Output `k` of a kept row's pointers, or its partial result of one chunk.
static void put_results(const ReduceFloats& args, const Plan& plan, const float* values, int64_t k,
                        int64_t count, int64_t chunk, char* out) {
  if (plan.chunks > 1) {
    float* partial = static_cast<float*>(args.workspace) + chunk * plan.outputs + k;
    memcpy(partial, values, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  const int64_t stride = plan.kept.inner_stride(1);
  for (int64_t i = 0; i < count; ++i) {
    const float value = values[i] / args.divisor;
    store_floats(args.out.dtype, &value, 1, out + i * stride, 0);
  }
}

template <ReduceOp op>
static void run_rows(const ReduceFloats& args, const Plan& plan) {
  const int64_t inner = plan.kept.inner();
  const int64_t per_task = plan.chunk < kTaskElements ? kTaskElements / (plan.chunk + 1) + 1 : 1;
  const int64_t cost = plan.outputs * (plan.elements + 16);
  parallel_chunks(plan.outputs * plan.chunks, per_task, cost, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t k = unit / plan.chunks, chunk = unit % plan.chunks;
      Cursor<3> at = cursor_at(plan.kept, k / inner, 1);
      for (int v = 0; v < 3; ++v) at.data[v] += k % inner * plan.kept.inner_stride(v);
      const float center = at.data[2] == nullptr ? 0.0f : *reinterpret_cast<float*>(at.data[2]);
      const int64_t begin = chunk * plan.chunk;
      const int64_t left = plan.elements - begin;
      const int64_t end = begin + (left < plan.chunk ? left : plan.chunk);
      const float value = reduce_row<op>(args, plan.reduced, at.data[0], center, begin, end);
      put_results(args, plan, &value, k, 1, chunk, at.data[1]);
    }
  });
}

template <ReduceOp op>
static void run_columns(const ReduceFloats& args, const Plan& plan) {
  const int64_t inner = plan.kept.inner(), strips = (inner + kStrip - 1) / kStrip;
  const int64_t units = plan.kept.rows() * strips * plan.chunks;
  const int64_t cost = plan.outputs * (plan.elements + 16);
  parallel_for(units, cost, [&](int64_t unit) {
    const int64_t chunk = unit % plan.chunks, row = unit / plan.chunks / strips;
    const int64_t column = unit / plan.chunks % strips * kStrip;
    const int64_t width = inner - column < kStrip ? inner - column : kStrip;
    Cursor<3> at = cursor_at(plan.kept, row, 1);
    for (int v = 0; v < 3; ++v) at.data[v] += column * plan.kept.inner_stride(v);
    float center[kStrip] = {}, results[kStrip];
    if (at.data[2] != nullptr) {
      const int64_t stride = plan.kept.inner_stride(2);
      for (int64_t j = 0; j < width; ++j) {
        center[j] = *reinterpret_cast<float*>(at.data[2] + j * stride);
      }
    }
    const int64_t begin = chunk * plan.chunk;
    const int64_t left = plan.elements - begin;
    const int64_t end = begin + (left < plan.chunk ? left : plan.chunk);
    reduce_strip<op>(args, plan.reduced, at.data[0], center, width, begin, end, results);
    put_results(args, plan, results, row * inner + column, width, chunk, at.data[1]);
  });
}

// Combines the chunks' partial results in pairs. There are few outputs where there are chunks.
template <ReduceOp op>
static void finish_chunks(const ReduceFloats& args, const Plan& plan) {
  float* partials = static_cast<float*>(args.workspace);
  const int64_t inner = plan.kept.inner();
  for (int64_t step = 1; step < plan.chunks; step *= 2) {
    for (int64_t c = 0; c + step < plan.chunks; c += 2 * step) {
      float* into = partials + c * plan.outputs;
      const float* from = partials + (c + step) * plan.outputs;
      for_each_vector(plan.outputs, [&](int64_t k, int64_t n) {
        store_lanes(into + k, combine<op>(load_lanes(into + k, n), load_lanes(from + k, n)), n);
      });
    }
  }
  for (int64_t k = 0; k < plan.outputs; ++k) {
    const Cursor<3> at = cursor_at(plan.kept, k / inner, 1);
    const float value = partials[k] / args.divisor;
    store_floats(args.out.dtype, &value, 1, at.data[1] + k % inner * plan.kept.inner_stride(1), 0);
  }
}

template <ReduceOp op>
static void run(const ReduceFloats& args) {
  const Plan plan = make_plan(args);
  if (plan.outputs == 0) return;
  if (plan.columns) {
    run_columns<op>(args, plan);
  } else {
    run_rows<op>(args, plan);
  }
  if (plan.chunks > 1) finish_chunks<op>(args, plan);
}

}  // namespace

void reduce_floats(const ReduceFloats& args) {
  switch (args.op) {
    case ReduceOp::max:
      return run<ReduceOp::max>(args);
    case ReduceOp::min:
      return run<ReduceOp::min>(args);
    case ReduceOp::max_abs:
      return run<ReduceOp::max_abs>(args);
    case ReduceOp::squared_deviation:
      return run<ReduceOp::squared_deviation>(args);
    default:
      return run<ReduceOp::sum>(args);
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
