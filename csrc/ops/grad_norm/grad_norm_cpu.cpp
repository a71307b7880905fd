// CPU gradient norm: one float64 sum a chunk, then the sum of those in their order.
#include "cpu/dispatch.h"
#include "cpu/simd.h"
#include "cpu/tensor_list.h"
#include "ops/grad_norm/grad_norm.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

typedef float HalfVec __attribute__((vector_size(2 * kLanes)));
typedef double DoubleVec __attribute__((vector_size(4 * kLanes)));

template <typename T>
static double sum_of_squares(const T* values, int64_t count) {
  DoubleVec low = {}, high = {};
  for_each_vector(count, [&](int64_t i, int64_t n) {
    const Vec v = load_lanes(values + i, n);
    HalfVec half[2];
    memcpy(half, &v, sizeof v);
    const DoubleVec a = __builtin_convertvector(half[0], DoubleVec);
    const DoubleVec b = __builtin_convertvector(half[1], DoubleVec);
    low += a * a;
    high += b * b;
  });
  double total = 0.0;
  for (int lane = 0; lane < kLanes / 2; ++lane) total += low[lane] + high[lane];
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
