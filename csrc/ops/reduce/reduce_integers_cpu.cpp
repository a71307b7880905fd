// CPU reductions of integers, and positions of extremes. Every output runs along its own elements:
// these serve masks, counts and predictions, not the inner loops of training.
#include "ops/reduce/reduce.h"
#include "ops/reduce/reduce_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// Calls body(pointer to x, pointer to out) for every output.
template <typename Body>
PYMODEL_INLINE void for_each_output(const StridedLoop<2>& kept, int64_t elements,
                                    const Body& body) {
  const int64_t inner = kept.inner(), outputs = kept.rows() * inner;
  const int64_t per_task = kTaskElements / (elements + 1) + 1;
  parallel_chunks(outputs, per_task, outputs * (elements + 16), [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const Cursor<2> at = cursor_at(kept, k / inner, 1);
      body(at.data[0] + k % inner * kept.inner_stride(0),
           at.data[1] + k % inner * kept.inner_stride(1));
    }
  });
}

// ---------------------------------------------------------------------------------------------
// Reductions

PYMODEL_INLINE int64_t identity(ReduceOp op) {
  switch (op) {
    case ReduceOp::max:
      return INT64_MIN;
    case ReduceOp::min:
      return INT64_MAX;
    case ReduceOp::all:
      return 1;
    default:
      return 0;
  }
}

static int64_t combine_block(ReduceOp op, int64_t total, const int64_t* x, int64_t count) {
  switch (op) {
    case ReduceOp::max:
      for (int64_t i = 0; i < count; ++i) total = x[i] > total ? x[i] : total;
      return total;
    case ReduceOp::min:
      for (int64_t i = 0; i < count; ++i) total = x[i] < total ? x[i] : total;
      return total;
    case ReduceOp::any:
      for (int64_t i = 0; i < count; ++i) total |= x[i] != 0;
      return total;
    case ReduceOp::all:
      for (int64_t i = 0; i < count; ++i) total &= x[i] != 0;
      return total;
    default: {
      // Wraps around on overflow, which only unsigned arithmetic may do.
      auto wrapping = static_cast<uint64_t>(total);
      for (int64_t i = 0; i < count; ++i) wrapping += static_cast<uint64_t>(x[i]);
      return static_cast<int64_t>(wrapping);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Positions

// Whether `value` comes before `best`; NaN comes before everything.
template <bool smallest, typename T>
PYMODEL_INLINE bool precedes(T value, T best) {
  if (value != value) return best == best;
  return smallest ? value < best : value > best;
}

template <bool smallest>
static int64_t first_extreme(const Argmax& args, const StridedLoop<1>& reduced, char* base) {
  const int64_t stride = reduced.inner_stride(0), elements = reduced.inner();
  const bool floats = is_floating(args.x.dtype);
  float float_buffer[kBlock], best_float = 0;
  int64_t integer_buffer[kBlock], best_integer = 0, position = 0, begin = 0;
  for_each_reduced(reduced, base, 0, elements, [&](const char* data, int64_t n) {
    if (floats) {
      const float* x = load_floats(args.x.dtype, data, stride, n, float_buffer);
      if (begin == 0) best_float = x[0];
      for (int64_t i = 0; i < n; ++i) {
        if (!precedes<smallest>(x[i], best_float)) continue;
        best_float = x[i];
        position = begin + i;
      }
    } else {
      const int64_t* x = load_integers(args.x.dtype, data, stride, n, integer_buffer);
      if (begin == 0) best_integer = x[0];
      for (int64_t i = 0; i < n; ++i) {
        if (!precedes<smallest>(x[i], best_integer)) continue;
        best_integer = x[i];
        position = begin + i;
      }
    }
    begin += n;
  });
  return position;
}

}  // namespace

void reduce_integers(const ReduceIntegers& args) {
  const TensorView kept_dims = dims_of(args.x, 0, args.kept);
  const TensorView reduced_dims = dims_of(args.x, args.kept, args.x.ndim);
  const StridedLoop<2> kept = make_loop<2>({&kept_dims, &args.out});
  const StridedLoop<1> reduced = make_loop<1>({&reduced_dims});
  const int64_t elements = reduced.rows() * reduced.inner();
  for_each_output(kept, elements, [&](char* x, char* out) {
    int64_t buffer[kBlock], total = identity(args.op);
    const int64_t stride = reduced.inner_stride(0);
    for_each_reduced(reduced, x, 0, elements, [&](const char* data, int64_t n) {
      total =
          combine_block(args.op, total, load_integers(args.x.dtype, data, stride, n, buffer), n);
    });
    store_integers(args.out.dtype, &total, 1, out, 0);
  });
}

void argmax(const Argmax& args) {
  const int last = args.x.ndim - 1;
  const TensorView kept_dims = dims_of(args.x, 0, last);
  const TensorView reduced_dim = dims_of(args.x, last, args.x.ndim);
  const StridedLoop<2> kept = make_loop<2>({&kept_dims, &args.out});
  const StridedLoop<1> reduced = make_loop<1>({&reduced_dim});
  for_each_output(kept, reduced.inner(), [&](char* x, char* out) {
    const int64_t position = args.smallest ? first_extreme<true>(args, reduced, x)
                                           : first_extreme<false>(args, reduced, x);
    memcpy(out, &position, sizeof position);
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
