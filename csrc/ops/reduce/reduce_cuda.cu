// CUDA reductions: how a call is cut into launches of the kernels in reduce_kernels.cuh.
#include "ops/reduce/reduce.h"
#include "ops/reduce/reduce_kernels.cuh"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// ---------------------------------------------------------------------------------------------
// Launchers

constexpr int64_t kWarpSlots = 512;  // of an output, for one warp; more are worth a block
// Slots that each thread of a block is to have before an output is cut into chunks.
constexpr int64_t kRowSlots = 8, kColumnSlots = 16;

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
  bool columns;
  bool vectors;  // slots have `width` elements instead of one
};

Plan make_plan(const TensorView& x, int kept_dims, const TensorView& out, const TensorView& center,
               int width) {
  const TensorView kept = dims_of(x, 0, kept_dims), reduced = dims_of(x, kept_dims, x.ndim);
  Plan plan{make_loop<3>({&kept, &out, &center}), make_loop<1>({&reduced}), false, false};
  const auto item = static_cast<int64_t>(item_size(x.dtype));
  const bool dense_rows = plan.reduced.inner() > 1 && plan.reduced.inner_stride(0) == item;
  plan.columns = !dense_rows && plan.kept.inner() > 1 && plan.kept.inner_stride(0) == item;
  if (!dense_rows && !plan.columns) return plan;
  const int64_t bytes = item * width < 16 ? item * width : 16;
  const int kept_outer = plan.columns ? plan.kept.ndim - 1 : plan.kept.ndim;
  const int reduced_outer = plan.columns ? plan.reduced.ndim : plan.reduced.ndim - 1;
  plan.vectors = (plan.columns ? plan.kept.inner() : plan.reduced.inner()) >= width &&
                 keeps_alignment(plan.kept, 0, kept_outer, bytes) &&
                 keeps_alignment(plan.reduced, 0, reduced_outer, bytes);
  return plan;
}

// Cuts the reduced slots of a launch into chunks of at least `least`, so that the `groups` blocks
// that there are without chunks become enough.
void cut_into_chunks(int64_t groups, int64_t least, Reduction* job) {
  const int64_t slots = job->reduced.count, most = slots / least;
  const int64_t wanted = kReduceBlocks / groups < most ? kReduceBlocks / groups : most;
  const int64_t chunk = wanted > 1 ? ceil_divide(slots, wanted) : slots;
  job->chunk = static_cast<uint32_t>(chunk);
  job->chunks = slots > chunk ? static_cast<uint32_t>(ceil_divide(slots, chunk)) : 1;
  job->partial = job->partial || job->chunks > 1;
}

template <typename Reducer, int width>
void launch_rows(const Launch& launch, const Reducer& reducer, Reduction* job) {
  const int64_t slots = job->reduced.count;
  const int team = slots > kWarpSlots ? kReduceThreads : power_of_two_from(slots, kWarp);
  const int64_t groups = ceil_divide(job->outputs * team, kReduceThreads);
  cut_into_chunks(groups, kReduceThreads * kRowSlots, job);
  launch(reduce_rows_kernel<Reducer, width>, static_cast<unsigned>(groups * job->chunks),
         kReduceThreads, 0, *job, reducer, team);
}

template <typename Reducer, int width>
void launch_columns(const Launch& launch, const Reducer& reducer, Reduction* job) {
  const int64_t columns = job->kept.extents[0].value;
  const int lanes = power_of_two_from(columns, kWarp);
  const int64_t groups = job->kept.count / columns * ceil_divide(columns, lanes);
  cut_into_chunks(groups, kReduceThreads / lanes * kColumnSlots, job);
  launch(reduce_columns_kernel<Reducer, width>, static_cast<unsigned>(groups * job->chunks),
         kReduceThreads, 0, *job, reducer, lanes);
}

// Reduces into the outputs of `plan.kept`. Very many reduced slots take several launches.
template <typename Reducer, int width>
void reduce_part(const Launch& launch, const Reducer& reducer, const Plan& plan, Reduction job) {
  const int reduced_width = plan.columns ? 1 : width;
  job.kept = slots_of(plan.kept, plan.columns ? width : 1);
  job.outputs = plan.kept.rows() * plan.kept.inner();
  const auto run = [&] {
    if (plan.columns) {
      launch_columns<Reducer, width>(launch, reducer, &job);
    } else {
      launch_rows<Reducer, width>(launch, reducer, &job);
    }
    job.first_chunk += job.chunks;
  };
  const int64_t slots = ceil_divide(plan.reduced.inner(), reduced_width) * plan.reduced.rows();
  if (slots == 0) return run();  // writes what a reduction of nothing gives
  for_each_part(plan.reduced, reduced_width, [&](const StridedLoop<1>& part) {
    job.reduced = slots_of(part, reduced_width);
    job.kept.data[0] = plan.kept.data[0] + (part.data[0] - plan.reduced.data[0]);
    job.partial = job.reduced.count < slots;
    run();
  });
  if (!job.partial) return;
  job.kept = slots_of(plan.kept, 1);
  // Eight neighbours fill the 64 bytes that memory delivers at the least.
  const int lanes = power_of_two_from(job.outputs, 8);
  launch(join_chunks_kernel<Reducer>, blocks_for(job.outputs, lanes), kReduceThreads, 0, job,
         reducer, lanes);
}

template <typename Reducer, typename Arguments>
void reduce(const Launch& launch, const Reducer& reducer, const Arguments& args,
            const TensorView& center, float divisor) {
  Plan plan = make_plan(args.x, args.kept, args.out, center, Reducer::kWidth);
  Reduction job;
  job.workspace = args.workspace;
  job.finish = {args.out.dtype, divisor};
  job.out_step = plan.kept.inner_stride(1);
  job.center_step = plan.kept.inner_stride(2);
  for_each_part(plan.kept, 1, [&](const StridedLoop<3>& part) {
    plan.kept = part;
    if (plan.vectors) {
      reduce_part<Reducer, Reducer::kWidth>(launch, reducer, plan, job);
    } else {
      reduce_part<Reducer, 1>(launch, reducer, plan, job);
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
