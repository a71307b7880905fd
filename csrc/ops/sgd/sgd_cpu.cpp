// CPU stochastic gradient descent, bound by memory bandwidth.
#include "cpu/dispatch.h"
#include "cpu/master_weights.h"
#include "cpu/tensor_list.h"
#include "ops/sgd/sgd.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
static void update_piece(const SgdTensor& tensor, int64_t begin, int64_t end, float grad_scale) {
  const SgdFactors f = tensor.factors;
  T* parameter = static_cast<T*>(tensor.parameter) + begin;
  const T* grad = static_cast<const T*>(tensor.grad) + begin;
  float* momentum = tensor.momentum == nullptr ? nullptr : tensor.momentum + begin;
  float* master = tensor.master == nullptr ? nullptr : tensor.master + begin;
  for_each_vector(end - begin, [&](int64_t i, int64_t n) {
    const Vec before = load_weights(parameter, master, i, n);
    Vec direction = load_lanes(grad + i, n) * grad_scale;
    if (f.weight_decay != 0.0f) direction = fma(before, broadcast(f.weight_decay), direction);
    if (momentum != nullptr) {
      const Vec old = load_lanes(momentum + i, n);
      const Vec buffer = fma(old, broadcast(f.momentum), direction * f.gradient_weight);
      store_lanes(momentum + i, buffer, n);
      direction = f.nesterov ? fma(buffer, broadcast(f.momentum), direction) : buffer;
    }
    store_weights(parameter, master, fma(direction, broadcast(-f.lr), before), i, n);
  });
}

}  // namespace

void sgd(const Sgd& args) {
  const int64_t cost = 8 * list_elements(args.list);
  parallel_for(list_chunks(args.list), cost, [&](int64_t chunk) {
    for_each_piece(args.list, args.tensors, chunk,
                   [&](const SgdTensor& tensor, int64_t begin, int64_t end) {
                     dispatch_floating(tensor.dtype, [&](auto type) {
                       update_piece<decltype(type)>(tensor, begin, end, args.grad_scale);
                     });
                   });
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
