// CPU AdamW. Memory bandwidth is the bound: 28 bytes a float32 parameter, each touched once.
#include "cpu/dispatch.h"
#include "cpu/master_weights.h"
#include "cpu/tensor_list.h"
#include "ops/adamw/adamw.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
static void update_piece(const AdamWTensor& tensor, int64_t begin, int64_t end, float grad_scale) {
  const AdamWFactors f = tensor.factors;
  T* parameter = static_cast<T*>(tensor.parameter) + begin;
  const T* grad = static_cast<const T*>(tensor.grad) + begin;
  float* exp_avg = tensor.exp_avg + begin;
  float* exp_avg_sq = tensor.exp_avg_sq + begin;
  float* master = tensor.master == nullptr ? nullptr : tensor.master + begin;
  for_each_vector(end - begin, [&](int64_t i, int64_t n) {
    const Vec before = load_weights(parameter, master, i, n);
    Vec g = load_lanes(grad + i, n) * grad_scale;
    if (f.penalty != 0.0f) g = fma(before, broadcast(f.penalty), g);
    const Vec old_m = load_lanes(exp_avg + i, n);
    const Vec m = fma(g - old_m, broadcast(f.first_weight), old_m);
    const Vec v =
        fma(g * g, broadcast(f.second_weight), load_lanes(exp_avg_sq + i, n) * f.second_decay);
    const Vec denominator = fma(sqrt(v), broadcast(f.inverse_correction2), broadcast(f.eps));
    store_lanes(exp_avg + i, m, n);
    store_lanes(exp_avg_sq + i, v, n);
    const Vec after = fma(m / denominator, broadcast(-f.step_size), before * f.decay);
    store_weights(parameter, master, after, i, n);
  });
}

}  // namespace

void adamw(const AdamW& args) {
  const int64_t cost = 16 * list_elements(args.list);
  parallel_for(list_chunks(args.list), cost, [&](int64_t chunk) {
    for_each_piece(args.list, args.tensors, chunk,
                   [&](const AdamWTensor& tensor, int64_t begin, int64_t end) {
                     dispatch_floating(tensor.dtype, [&](auto type) {
                       update_piece<decltype(type)>(tensor, begin, end, args.grad_scale);
                     });
                   });
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
