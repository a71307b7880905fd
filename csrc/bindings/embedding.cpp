#include "ops/embedding/embedding.h"

#include "bindings/fault.h"

namespace pymodel {
namespace {

// Returns the first position whose index is no row of weight, or -1; of a device that is not waited
// for always -1, and the next call that waits raises.
int64_t forward(const Array& indices, const Array& weight, const Array& y) {
  const Checker check("embedding");
  check.ndim("indices", indices, 1);
  check.dtype("indices", indices, {DType::int64, DType::int32, DType::uint8});
  check.ndim("weight", weight, 2);
  check.unit_stride("weight", weight);
  check.shape("out", y, {indices.size(0), weight.size(1)});
  check.dtype("out", y, {weight.dtype()});
  check.unit_stride("out", y);
  check.same_device({&indices, &weight, &y});
  FaultReport invalid(weight.device(), Fault::embedding_index);
  EmbeddingForward args;
  args.indices = indices.view();
  args.weight = weight.view();
  args.y = y.view();
  args.invalid = invalid.slot();
  PYMODEL_RUN(embedding_forward, weight.device(), args);
  return invalid.position();
}

void backward(const Array& indices, const Array& dy, const Array& dweight, int64_t padding_index,
              bool accumulate) {
  const Checker check("embedding backward");
  check.shape("gradient", dy, {indices.size(0), dweight.size(1)});
  check.dtype("gradient", dy, {dweight.dtype()});
  check.unit_stride("gradient", dy);
  check.unit_stride("the gradient of weight", dweight);
  EmbeddingBackward args;
  args.indices = indices.view();
  args.dy = dy.view();
  args.dweight = dweight.view();
  args.padding_index = padding_index;
  args.accumulate = accumulate;
  if (!accumulate) check.contiguous("the gradient of weight", dweight);
  const int64_t count = indices.size(0);
  const Workspace workspace(dy.device(), embedding_workspace(count),
                            embedding_device_workspace(count, dy.size(1)));
  args.workspace = workspace.data();
  PYMODEL_RUN(embedding_backward, dy.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("embedding_forward", &forward);
  m.def("embedding_backward", &backward);
}

}  // namespace pymodel
