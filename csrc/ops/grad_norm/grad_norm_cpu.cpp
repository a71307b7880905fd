// CPU gradient norm: one float64 sum a chunk, then the sum of those in their order.
#include "cpu/dispatch.h"
#include "cpu/double.h"
#include "cpu/tensor_list.h"
#include "ops/grad_norm/grad_norm.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// totals[0 and 1] += the squares of the two halves of v.
PYMODEL_INLINE void add_squares(Vec v, DoubleVec* totals) {
  const Widened wide = widened(v);
  totals[0] += wide.low * wide.low;
  totals[1] += wide.high * wide.high;
}

template <typename T>
static double sum_of_squares(const T* values, int64_t count) {
  constexpr int kAbreast = 4;  // vectors whose additions do not wait for each other
  DoubleVec totals[2 * kAbreast] = {};
  int64_t i = 0;
  for (; i + kAbreast * kLanes <= count; i += kAbreast * kLanes) {
#pragma GCC unroll 4
    for (int u = 0; u < kAbreast; ++u) add_squares(load(values + i + u * kLanes), totals + 2 * u);
  }
  for (; i < count; i += kLanes) {
    add_squares(load_lanes(values + i, count - i < kLanes ? count - i : kLanes), totals);
  }
  for (int u = 1; u < 2 * kAbreast; ++u) totals[0] += totals[u];
  double total = 0.0;
  for (int lane = 0; lane < kLanes / 2; ++lane) total += totals[0][lane];
  return total;
}

template <typename T>
static void scale_piece(T* values, int64_t count, float scale) {
  for_each_vector(count, [&](int64_t i, int64_t n) {
    store_lanes(values + i, load_lanes(values + i, n) * scale, n);
  });
}

// Calls body(pointer to the piece's first element, elements) with the pointer's type.
template <typename Body>
PYMODEL_INLINE void typed_piece(const GradTensor& tensor, int64_t begin, int64_t end,
                                const Body& body) {
  dispatch_floating(tensor.dtype, [&](auto type) {
    body(static_cast<decltype(type)*>(tensor.data) + begin, end - begin);
  });
}

}  // namespace

void grad_norm(const GradNorm& args) {
  const int64_t chunks = list_chunks(args.list);
  parallel_for(chunks, 2 * list_elements(args.list), [&](int64_t chunk) {
    double total = 0.0;
    for_each_piece(args.list, args.tensors, chunk,
                   [&](const GradTensor& tensor, int64_t begin, int64_t end) {
                     typed_piece(tensor, begin, end, [&](const auto* values, int64_t count) {
                       total += sum_of_squares(values, count);
                     });
                   });
    args.partials[chunk] = total;
  });
  double total = 0.0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += args.partials[chunk];
  *args.norm = __builtin_sqrt(total);
}

void grad_scale(const GradScale& args) {
  parallel_for(list_chunks(args.list), list_elements(args.list), [&](int64_t chunk) {
    for_each_piece(
        args.list, args.tensors, chunk, [&](const GradTensor& tensor, int64_t begin, int64_t end) {
          typed_piece(tensor, begin, end,
                      [&](auto* values, int64_t count) { scale_piece(values, count, args.scale); });
        });
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
