// CPU choice between two tensors by a mask.
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/strided_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// Both sides are read before the choice: a mask is rarely predictable, and without a branch the
// dense loops become vector blends. A step of 0 is a constant side.
template <typename T, int a_step, int b_step>
static void choose_dense(char* const* p, int64_t count) {
  T* out = reinterpret_cast<T*>(p[0]);
  const uint8_t* condition = reinterpret_cast<const uint8_t*>(p[1]);
  const T *a = reinterpret_cast<const T*>(p[2]), *b = reinterpret_cast<const T*>(p[3]);
  for (int64_t i = 0; i < count; ++i) {
    const T left = a[i * a_step], right = b[i * b_step];
    out[i] = condition[i] != 0 ? left : right;
  }
}

template <typename T>
static void choose_run(char* const* p, const int64_t* strides, int64_t count) {
  constexpr auto item = static_cast<int64_t>(sizeof(T));
  if (strides[0] == item && strides[1] == 1) {
    const bool a_dense = strides[2] == item, b_dense = strides[3] == item;
    if (a_dense && b_dense) return choose_dense<T, 1, 1>(p, count);
    if (strides[2] == 0 && b_dense) return choose_dense<T, 0, 1>(p, count);
    if (a_dense && strides[3] == 0) return choose_dense<T, 1, 0>(p, count);
  }
  for (int64_t i = 0; i < count; ++i) {
    const bool chosen = *reinterpret_cast<const uint8_t*>(p[1] + i * strides[1]) != 0;
    const T left = *reinterpret_cast<const T*>(p[2] + i * strides[2]);
    const T right = *reinterpret_cast<const T*>(p[3] + i * strides[3]);
    *reinterpret_cast<T*>(p[0] + i * strides[0]) = chosen ? left : right;
  }
}

}  // namespace

void where(const WhereArguments& args) {
  const StridedLoop<4> loop = make_loop<4>({&args.out, &args.condition, &args.a, &args.b});
  int64_t strides[4];
  for (int v = 0; v < 4; ++v) strides[v] = loop.inner_stride(v);
  for_each_run(loop, 1, [&](char* const* p, int64_t count) {
    switch (item_size(args.out.dtype)) {
      case 1:
        return choose_run<uint8_t>(p, strides, count);
      case 2:
        return choose_run<uint16_t>(p, strides, count);
      case 4:
        return choose_run<uint32_t>(p, strides, count);
      default:
        return choose_run<uint64_t>(p, strides, count);
    }
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
