// CPU reductions of floats (reduce.h). Where the reduced dimensions are dense, each output runs
// along them ("rows"), sums with compensation; where the kept ones are, a strip of outputs runs
// down together ("columns"), sums in float64.
#include "cpu/dispatch.h"
#include "cpu/double.h"
#include "cpu/math.h"
#include "ops/reduce/reduce.h"
#include "ops/reduce/reduce_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

constexpr int64_t kStrip = 512;  // outputs side by side, at most: runs that prefetchers follow
// Rows of a strip that are summed in float32 before a float64 total takes them in. Their rounding
// is less than that of torch, and the conversion costs a sixteenth of what it would for each.
constexpr int64_t kRowsTogether = 16;
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

// How results so far take in more: `total`, and for sums `lost`, what rounding took from it.
template <ReduceOp op>
PYMODEL_INLINE void accumulate(Vec* total, Vec* lost, Vec value) {
  if constexpr (op == ReduceOp::sum || op == ReduceOp::squared_deviation) {
    // Knuth's TwoSum: the rounding error of one addition, exactly.
    const Vec sum = *total + value;
    const Vec added = sum - *total;
    *lost += (*total - (sum - added)) + (value - added);
    *total = sum;
  } else if constexpr (op == ReduceOp::min) {
    *total = select(*total != *total, *total, min(*total, value));
  } else {
    *total = select(*total != *total, *total, max(*total, value));
  }
}

template <ReduceOp op>
PYMODEL_INLINE double combine(double a, double b) {
  if constexpr (op == ReduceOp::sum || op == ReduceOp::squared_deviation) return a + b;
  if (a != a) return a;
  if constexpr (op == ReduceOp::min) return a < b ? a : b;
  return a > b ? a : b;
}

// The corrected total. Beyond infinity the correction is NaN and the total says it all.
PYMODEL_INLINE double corrected(float total, float lost) {
  return lost == lost ? static_cast<double>(total) + static_cast<double>(lost) : total;
}

// ---------------------------------------------------------------------------------------------
// Rows

template <ReduceOp op>
struct RowTotals {
  static constexpr int kCount = 4;  // chains of additions that do not wait for each other
  Vec total[kCount], lost[kCount];

  RowTotals() {
    for (Vec& t : total) t = broadcast(identity<op>());
    for (Vec& l : lost) l = zero();
  }

  void add(const float* x, int64_t count, Vec center) {
    int64_t i = 0;
    for (; i + kCount * kLanes <= count; i += kCount * kLanes) {
#pragma GCC unroll 4
      for (int u = 0; u < kCount; ++u) {
        accumulate<op>(total + u, lost + u, contribution<op>(load(x + i + u * kLanes), center));
      }
    }
    for (int u = 0; i < count; i += kLanes, ++u) {
      const int64_t n = count - i < kLanes ? count - i : kLanes;
      Vec value = contribution<op>(load_lanes(x + i, n), center);
      if (n < kLanes) {
        float lanes[kLanes];
        store(lanes, value);
        for (int64_t lane = n; lane < kLanes; ++lane) lanes[lane] = identity<op>();
        value = load(lanes);
      }
      accumulate<op>(total + u, lost + u, value);
    }
  }

  double result() {
    for (int u = 1; u < kCount; ++u) {
      accumulate<op>(total, lost, total[u]);
      lost[0] += lost[u];
    }
    double value = corrected(total[0][0], lost[0][0]);
    for (int lane = 1; lane < kLanes; ++lane) {
      value = combine<op>(value, corrected(total[0][lane], lost[0][lane]));
    }
    return value;
  }
};

template <ReduceOp op>
static double reduce_row(const ReduceFloats& args, const StridedLoop<1>& reduced, char* base,
                         float center, int64_t begin, int64_t end) {
  RowTotals<op> totals;
  float buffer[kBlock];
  const int64_t stride = reduced.inner_stride(0);
  for_each_reduced(reduced, base, begin, end, [&](const char* data, int64_t n) {
    totals.add(load_floats(args.x.dtype, data, stride, n, buffer), n, broadcast(center));
  });
  return totals.result();
}

// ---------------------------------------------------------------------------------------------
// Columns

// totals[j] += what `rows` rows contribute to `count` vectors of columns, of which the last has
// `lanes` in use.
template <ReduceOp op, int count, typename T>
PYMODEL_INLINE void sum_down(const char* x, int64_t stride, int64_t rows, int64_t lanes,
                             const float* center, double* totals) {
  Vec sums[count];
#pragma GCC unroll 8
  for (int u = 0; u < count; ++u) sums[u] = zero();
  for (int64_t row = 0; row < rows; ++row) {
    const T* values = reinterpret_cast<const T*>(x + row * stride);
#pragma GCC unroll 8
    for (int u = 0; u < count; ++u) {
      const Vec value = load_lanes(values + u * kLanes, lanes);
      sums[u] += contribution<op>(value, load(center + u * kLanes));
    }
  }
  Widened wide[count];
  memcpy(wide, totals, sizeof wide);
#pragma GCC unroll 8
  for (int u = 0; u < count; ++u) {
    const Widened sum = widened(sums[u]);
    wide[u].low += sum.low;
    wide[u].high += sum.high;
  }
  memcpy(totals, wide, sizeof wide);
}

// Sums: results[kStrip].
template <ReduceOp op, typename T>
static void sum_strip(const StridedLoop<1>& reduced, char* base, const float* center, int64_t width,
                      int64_t begin, int64_t end, double* results) {
  constexpr int kAbreast = 8;  // vectors whose totals fit into the registers
  const int64_t stride = reduced.inner_stride(0);
  for (int64_t j = 0; j < kStrip; ++j) results[j] = 0.0;
  for_each_reduced(reduced, base, begin, end, [&](const char* data, int64_t rows) {
    for (int64_t row = 0; row < rows; row += kRowsTogether) {
      const int64_t n = rows - row < kRowsTogether ? rows - row : kRowsTogether;
      const char* x = data + row * stride;
      int64_t j = 0;
      for (; j + kAbreast * kLanes <= width; j += kAbreast * kLanes) {
        sum_down<op, kAbreast, T>(x + j * sizeof(T), stride, n, kLanes, center + j, results + j);
      }
      for (; j < width; j += kLanes) {
        const int64_t lanes = width - j < kLanes ? width - j : kLanes;
        sum_down<op, 1, T>(x + j * sizeof(T), stride, n, lanes, center + j, results + j);
      }
    }
  });
}

// Extremes: results[kStrip].
template <ReduceOp op>
static void extreme_strip(const ReduceFloats& args, const StridedLoop<1>& reduced, char* base,
                          int64_t width, int64_t begin, int64_t end, double* results) {
  float totals[kStrip], buffer[kStrip];
  for (float& total : totals) total = identity<op>();
  const auto item = static_cast<int64_t>(item_size(args.x.dtype));
  const int64_t stride = reduced.inner_stride(0);
  for_each_reduced(reduced, base, begin, end, [&](const char* data, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row) {
      const float* x = load_floats(args.x.dtype, data + row * stride, item, width, buffer);
      for_each_vector(width, [&](int64_t j, int64_t n) {
        Vec total = load(totals + j), unused = zero();
        accumulate<op>(&total, &unused, contribution<op>(load_lanes(x + j, n), unused));
        store(totals + j, total);
      });
    }
  });
  for (int64_t j = 0; j < width; ++j) results[j] = totals[j];
}

template <ReduceOp op>
static void reduce_strip(const ReduceFloats& args, const StridedLoop<1>& reduced, char* base,
                         const float* center, int64_t width, int64_t begin, int64_t end,
                         double* results) {
  if constexpr (op == ReduceOp::sum || op == ReduceOp::squared_deviation) {
    dispatch_floating(args.x.dtype, [&](auto tag) {
      sum_strip<op, decltype(tag)>(reduced, base, center, width, begin, end, results);
    });
  } else {
    extreme_strip<op>(args, reduced, base, width, begin, end, results);
  }
}

// ---------------------------------------------------------------------------------------------
// Shared by both: chunks of the reduced dimensions, partial results, output

struct Plan {
  StridedLoop<3> kept;  // x, out, center
  StridedLoop<1> reduced;
  bool columns;
  int64_t strip, strips;      // outputs side by side, where it is columns, of each row of kept ones
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
  plan.strips = (plan.kept.inner() + kStrip - 1) / kStrip;
  const int64_t even_strip =
      (plan.kept.inner() + plan.strips - 1) / (plan.strips > 0 ? plan.strips : 1);
  plan.strip = (even_strip + kLanes - 1) / kLanes * kLanes;
  if (plan.columns) groups = plan.kept.rows() * plan.strips;
  const int64_t least = plan.columns ? kReduceChunkRows : kTaskElements;
  const int64_t even = (plan.elements + kReduceChunks - 1) / kReduceChunks;
  plan.chunk = even > least ? even : least;
  plan.chunks = (plan.elements + plan.chunk - 1) / plan.chunk;
  if (groups >= kGroupsEnough || plan.outputs > kReduceOutputs || plan.chunks <= 1) {
    plan.chunk = plan.elements;
    plan.chunks = 1;
  }
  return plan;
}

// values (count), at most kStrip, as outputs side by side.
static void write_outputs(const ReduceFloats& args, const Plan& plan, const double* values,
                          int64_t count, char* out) {
  float results[kStrip];
  for (int64_t i = 0; i < count; ++i) results[i] = static_cast<float>(values[i] / args.divisor);
  store_floats(args.out.dtype, results, count, out, plan.kept.inner_stride(1));
}

// Output `k` of a kept row's pointers, or its partial result of one chunk.
static void put_results(const ReduceFloats& args, const Plan& plan, const double* values, int64_t k,
                        int64_t count, int64_t chunk, char* out) {
  if (plan.chunks > 1) {
    double* partial = static_cast<double*>(args.workspace) + chunk * plan.outputs + k;
    memcpy(partial, values, static_cast<size_t>(count) * sizeof(double));
    return;
  }
  write_outputs(args, plan, values, count, out);
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
      const double value = reduce_row<op>(args, plan.reduced, at.data[0], center, begin, end);
      put_results(args, plan, &value, k, 1, chunk, at.data[1]);
    }
  });
}

template <ReduceOp op>
static void run_columns(const ReduceFloats& args, const Plan& plan) {
  const int64_t inner = plan.kept.inner();
  const int64_t units = plan.kept.rows() * plan.strips * plan.chunks;
  const int64_t cost = plan.outputs * (plan.elements + 16);
  parallel_for(units, cost, [&](int64_t unit) {
    const int64_t chunk = unit % plan.chunks, row = unit / plan.chunks / plan.strips;
    const int64_t column = unit / plan.chunks % plan.strips * plan.strip;
    const int64_t width = inner - column < plan.strip ? inner - column : plan.strip;
    Cursor<3> at = cursor_at(plan.kept, row, 1);
    for (int v = 0; v < 3; ++v) at.data[v] += column * plan.kept.inner_stride(v);
    float center[kStrip] = {};
    double results[kStrip];
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

// Combines the chunks' partial results in their order. Chunks have hundreds of elements for each
// of these.
template <ReduceOp op>
static void finish_chunks(const ReduceFloats& args, const Plan& plan) {
  const int64_t inner = plan.kept.inner();
  for (int64_t row = 0; row < plan.kept.rows(); ++row) {
    char* const out = cursor_at(plan.kept, row, 1).data[1];
    for (int64_t column = 0; column < inner; column += kStrip) {
      const int64_t count = inner - column < kStrip ? inner - column : kStrip;
      const double* partials = static_cast<const double*>(args.workspace) + row * inner + column;
      double values[kStrip];
      memcpy(values, partials, static_cast<size_t>(count) * sizeof(double));
      for (int64_t chunk = 1; chunk < plan.chunks; ++chunk) {
        partials += plan.outputs;
        for (int64_t i = 0; i < count; ++i) values[i] = combine<op>(values[i], partials[i]);
      }
      write_outputs(args, plan, values, count, out + column * plan.kept.inner_stride(1));
    }
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
