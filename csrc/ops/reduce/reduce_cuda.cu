// CUDA reductions: how a call is cut into launches of the kernels in reduce_kernels.cuh.
#include "ops/reduce/reduce.h"
#include "ops/reduce/reduce_kernels.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Launchers

// Slots that one warp takes in; more are worth a block.
constexpr int64_t kWarpSlots = 512;
// Slots of a chunk for each of a block's threads.
constexpr int64_t kThreadSlots = 8;

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

int power_of_two_from(int64_t value, int most) {
  int result = 1;
  while (result < most && result < value) result *= 2;
  return result;
}

// A call: the views as loops, and which of the two ways it goes.
struct Plan {
  StridedLoop<3> kept;  // x, out, center
  StridedLoop<1> reduced;
  int64_t outputs, elements;  // elements of each output
  bool columns;
  bool vectors;  // slots have Reducer::kWidth elements instead of one
};

Plan make_plan(const TensorView& x, int kept_dims, const TensorView& out, const TensorView& center,
               int width) {
  const TensorView kept = dims_of(x, 0, kept_dims), inner = dims_of(x, kept_dims, x.ndim);
  Plan plan;
  plan.kept = make_loop<3>({&kept, &out, &center});
  plan.reduced = make_loop<1>({&inner});
  plan.reduced.data[0] = nullptr;  // it counts from the first element of each output
  plan.outputs = plan.kept.rows() * plan.kept.inner();
  plan.elements = plan.reduced.rows() * plan.reduced.inner();
  const auto item = static_cast<int64_t>(item_size(x.dtype));
  const bool dense_rows = plan.reduced.inner() > 1 && plan.reduced.inner_stride(0) == item;
  plan.columns = !dense_rows && plan.kept.inner() > 1 && plan.kept.inner_stride(0) == item;
  const int64_t bytes = item * width < 16 ? item * width : 16;
  const int kept_outer = plan.columns ? plan.kept.ndim - 1 : plan.kept.ndim;
  const int reduced_outer = plan.columns ? plan.reduced.ndim : plan.reduced.ndim - 1;
  plan.vectors = (plan.columns ? plan.kept.inner() : plan.reduced.inner()) >= width &&
                 (plan.columns || dense_rows) && keeps_alignment(plan.kept, 0, kept_outer, bytes) &&
                 keeps_alignment(plan.reduced, 0, reduced_outer, bytes);
  return plan;
}

// Sets how many chunks the slots of `job` are cut into, for `groups` blocks that there are without.
void cut_into_chunks(Reduction* job, int64_t groups, int64_t least_slots) {
  const int64_t slots = job->reduced.count;
  int64_t chunks = kReduceBlocks / (groups > 0 ? groups : 1);
  const int64_t most = ceil_divide(slots, least_slots);
  chunks = chunks < most ? chunks : most;
  chunks = chunks > 1 ? chunks : 1;
  const int64_t chunk = ceil_divide(slots, chunks);
  job->chunk = static_cast<uint32_t>(chunk);
  job->chunks = chunk > 0 ? static_cast<uint32_t>(ceil_divide(slots, chunk)) : 1;
}

// A loop over one part of the kept dimensions. The reduced ones are taken in by one launch, or by
// several where there are very many of them, whose partial results are then joined.
template <typename Reducer, int width>
void reduce_part(const Launch& launch, const Reducer& reducer, const Plan& plan, Reduction job,
                 void* workspace) {
  const int kept_width = plan.columns ? width : 1, reduced_width = plan.columns ? 1 : width;
  job.kept = slots_of(plan.kept, kept_width);
  job.outputs = plan.outputs;
  const int64_t slots = ceil_divide(plan.reduced.inner(), reduced_width) * plan.reduced.rows();
  const int team = slots > kWarpSlots ? kReduceThreads : power_of_two_from(slots, kWarp);
  const int lanes = power_of_two_from(job.kept.extents[0].value, kWarp);
  int64_t groups = ceil_divide(plan.outputs * team, kReduceThreads);
  if (plan.columns) groups = plan.kept.rows() * ceil_divide(job.kept.extents[0].value, lanes);
  const auto run = [&](bool last) {
    const int64_t threads = plan.columns ? kReduceThreads / lanes : team;
    const bool whole = !plan.columns && team < kReduceThreads;
    cut_into_chunks(&job, whole ? kReduceBlocks : groups, threads * kThreadSlots);
    const bool direct = last && job.first_chunk == 0 && job.chunks == 1;
    job.partials = direct ? nullptr : workspace;
    const auto grid = static_cast<unsigned>(groups * job.chunks);
    if (plan.columns) {
      launch(reduce_columns_kernel<Reducer, width>, grid, kReduceThreads, 0, job, reducer, lanes);
    } else {
      launch(reduce_rows_kernel<Reducer, width>, grid, kReduceThreads, 0, job, reducer, team);
    }
    job.first_chunk += job.chunks;
  };
  if (plan.elements == 0) return run(true);
  int64_t left = slots;
  for_each_part(plan.reduced, reduced_width, [&](const StridedLoop<1>& part) {
    job.reduced = slots_of(part, reduced_width);
    left -= job.reduced.count;
    run(left == 0);
  });
  if (job.partials == nullptr) return;
  const int side = power_of_two_from(plan.outputs, kWarp);
  launch(join_chunks_kernel<Reducer>, blocks_for(plan.outputs, side), kReduceThreads, 0,
         slots_of(plan.kept, 1), reducer, job.finish, workspace, job.first_chunk, plan.outputs,
         side);
}

template <typename Reducer, typename Arguments>
void reduce(const Launch& launch, const Reducer& reducer, const Arguments& args,
            const TensorView& center, float divisor) {
  Plan plan = make_plan(args.x, args.kept, args.out, center, Reducer::kWidth);
  if (plan.outputs == 0) return;
  Reduction job;
  job.finish = {args.out.dtype, divisor};
  job.out_step = plan.kept.inner_stride(1);
  job.center_step = plan.kept.inner_stride(2);
  for_each_part(plan.kept, 1, [&](const StridedLoop<3>& part) {
    plan.kept = part;
    plan.outputs = part.rows() * part.inner();
    if (plan.vectors) {
      reduce_part<Reducer, Reducer::kWidth>(launch, reducer, plan, job, args.workspace);
    } else {
      reduce_part<Reducer, 1>(launch, reducer, plan, job, args.workspace);
    }
  });
}

}  // namespace

void reduce_floats(const ReduceFloats& args, const Execution& on) {
  const Launch launch("reduce", on, {&args.x, &args.out});
  dispatch_floating(args.x.dtype, [&](auto type) {
    reduce(launch, FloatReducer<decltype(type)>{args.op}, args, args.center, args.divisor);
  });
}

void reduce_integers(const ReduceIntegers& args, const Execution& on) {
  const Launch launch("reduce", on, {&args.x, &args.out});
  reduce(launch, IntegerReducer{args.op, args.x.dtype}, args, TensorView{}, 1.0f);
}

}  // namespace pymodel::PYMODEL_BACKEND
