// CPU choice between two tensors by a mask.
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/strided_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
static void choose_run(char* const* p, const int64_t* strides, int64_t count) {
  constexpr auto item = static_cast<int64_t>(sizeof(T));
  if (strides[0] == item && strides[1] == 1 && strides[2] == item && strides[3] == item) {
    T* out = reinterpret_cast<T*>(p[0]);
    const uint8_t* condition = reinterpret_cast<const uint8_t*>(p[1]);
    const T *a = reinterpret_cast<const T*>(p[2]), *b = reinterpret_cast<const T*>(p[3]);
    // Both sides are read before the choice, which lets the loop become vector blends.
    for (int64_t i = 0; i < count; ++i) {
      const T left = a[i], right = b[i];
      out[i] = condition[i] != 0 ? left : right;
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const bool chosen = *reinterpret_cast<const uint8_t*>(p[1] + i * strides[1]) != 0;
    const char* source = chosen ? p[2] + i * strides[2] : p[3] + i * strides[3];
    *reinterpret_cast<T*>(p[0] + i * strides[0]) = *reinterpret_cast<const T*>(source);
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
