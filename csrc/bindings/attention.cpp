#include "ops/attention/attention.h"

#include <omp.h>

#include <algorithm>
#include <optional>

#include "bindings/elementwise.h"
#include "bindings/fault.h"
#include "bindings/transfer.h"
#include "core/philox.h"

namespace pymodel {
namespace {

const Checker kCheck("attention");

// The checked arguments of one call, which forward and backward share; the arrays keep the memory
// alive that `inputs` points into.
struct AttentionCall {
  Array q, k, v;  // (batch, S, heads, d), or packed (1, total, heads, d)
  std::optional<Array> bias, query_lengths, key_lengths, query_offsets, key_offsets;
  AttentionInputs inputs;

  bool packed() const { return query_offsets.has_value(); }
};

void check_operands(const Array& q, const Array& k, const Array& v) {
  for (auto [name, array] : {std::pair{"q", &q}, std::pair{"k", &k}, std::pair{"v", &v}}) {
    kCheck.ndim(name, *array, 4);
    kCheck.floating(name, *array);
    kCheck.dtype(name, *array, {q.dtype()});
    kCheck.unit_stride(name, *array);
  }
  kCheck.shape("k", k, {q.size(0), kAnyExtent, kAnyExtent, q.size(3)});
  kCheck.shape("v", v, {q.size(0), k.size(1), k.size(2), kAnyExtent});
  if (q.size(3) == 0 || v.size(3) == 0) kCheck.fail("head_dim must be at least 1");
  const int64_t heads = q.size(2), kv_heads = k.size(2);
  if (kv_heads == 0 ? heads != 0 : heads % kv_heads != 0) {
    kCheck.fail("the heads of q must be a multiple of those of k and v, got " +
                std::to_string(heads) + " and " + std::to_string(kv_heads));
  }
  for (auto [name, array] : {std::pair{"q", &q}, std::pair{"k", &k}}) {
    if (array->size(1) > kAttentionLongest) {
      kCheck.fail(std::string(name) + " must have at most 2^30 positions");
    }
  }
  const int64_t widest = std::max(q.size(3), v.size(3));
  if (!q.device().is_cpu() && widest > kAttentionDeviceHeadDim) {
    kCheck.fail("head_dim may be at most " + std::to_string(kAttentionDeviceHeadDim) +
                " on device '" + device_name(q.device()) + "', got " + std::to_string(widest) +
                "; the CPU takes any");
  }
}

void check_lengths(const char* name, const Array& lengths, int64_t batch, int64_t longest,
                   Fault fault) {
  kCheck.shape(name, lengths, {batch});
  kCheck.integer(name, lengths);
  if (!lengths.device().is_cpu()) {
    if (!found_outside(lengths, longest, fault)) return;
    check_lengths(name, moved(lengths, Device{}, false), batch, longest, fault);  // throws
  }
  const TensorView& view = lengths.view();
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t at = i * view.strides[0];
    const int64_t length =
        view.dtype == DType::int64 ? data_as<int64_t>(view)[at] : data_as<int32_t>(view)[at];
    if (length >= 0 && length <= longest) continue;
    kCheck.fail(std::string(name) + "[" + std::to_string(i) +
                "] must be from 0 to the sequence's extent " + std::to_string(longest) + ", got " +
                std::to_string(length));
  }
}

// Offsets (batch + 1) of sequences in `total` rows, none longer than `longest`.
void check_offset_values(const char* name, const Array& offsets, int64_t total, int64_t longest) {
  const TensorView& view = offsets.view();
  const int64_t last = view.shape[0] - 1;
  for (int64_t i = 0; i <= last; ++i) {
    const int64_t offset = attention_integer(view, i);
    const int64_t before = i == 0 ? 0 : attention_integer(view, i - 1);
    const bool at_end = i < last || offset == total;
    if ((i == 0 ? offset == 0 : offset >= before && offset - before <= longest) && at_end) continue;
    kCheck.fail(std::string(name) + " must rise from 0 to " + std::to_string(total) +
                ", the rows of memory, by at most " + std::to_string(longest) +
                ", the longest sequence, at a time; got " + std::to_string(offset) +
                " at position " + std::to_string(i) + " behind " + std::to_string(before));
  }
}

void check_offsets(const char* name, const Array& offsets, int64_t total, int64_t longest) {
  kCheck.ndim(name, offsets, 1);
  kCheck.integer(name, offsets);
  if (offsets.size(0) == 0) kCheck.fail(std::string(name) + " must have one element at least");
  // Rows that no sequence can hold would never be written.
  const int64_t least = total > 0 ? 1 : 0;
  if (longest < least || longest > kAttentionLongest) {
    kCheck.fail("max_seqlen must be from " + std::to_string(least) + " to 2^30, got " +
                std::to_string(longest));
  }
  if (offsets.size(0) == 1 && total > 0) {
    kCheck.fail(std::string(name) + " names no sequence, but there are " + std::to_string(total) +
                " rows");
  }
  if (offsets.device().is_cpu()) check_offset_values(name, offsets, total, longest);
}

// (batch | 1, heads | 1, Sq | 1, Sk) as (batch, heads, Sq, Sk) with strides of 0.
TensorView broadcast_bias(const Array& bias, const AttentionInputs& inputs) {
  const int64_t wanted[4] = {inputs.q.shape[0], inputs.q.shape[2], inputs.q.shape[1],
                             inputs.k.shape[1]};
  TensorView view = bias.view();
  bool fits = bias.ndim() == 4 && view.shape[3] == wanted[3];
  for (int dim = 0; fits && dim < 3; ++dim) {
    fits = view.shape[dim] == wanted[dim] || view.shape[dim] == 1;
    if (view.shape[dim] == 1) view.strides[dim] = 0;
    view.shape[dim] = wanted[dim];
  }
  if (!fits) {
    kCheck.fail("bias must have shape " +
                shape_string({wanted[0], wanted[1], wanted[2], wanted[3]}) +
                " with 1 where it is shared along batch, heads or queries, got " +
                shape_string(bias.shape()));
  }
  kCheck.dtype("bias", bias, {inputs.q.dtype, DType::float32});
  kCheck.unit_stride("bias", bias);
  return view;
}

AttentionDropout dropout_of(double p, uint64_t seed, uint64_t offset) {
  if (!(p >= 0.0 && p <= 1.0))
    kCheck.fail("dropout_p must be from 0 to 1, got " + std::to_string(p));
  AttentionDropout dropout;
  dropout.active = p > 0.0;
  dropout.factor = p < 1.0 ? static_cast<float>(1.0 / (1.0 - p)) : 0.0f;
  dropout.threshold = keep_threshold(1.0 - p);
  dropout.seed = seed;
  dropout.offset = offset;
  return dropout;
}

struct Options {
  float scale;
  int64_t window_left, window_right;
  double dropout_p;
  uint64_t seed, offset;
};

// What comes after the extents are known.
void set_options(const Options& options, const Array* bias, AttentionCall* call) {
  AttentionInputs& inputs = call->inputs;
  if (bias != nullptr) {
    call->bias = *bias;
    inputs.bias = broadcast_bias(*bias, inputs);
  }
  inputs.scale = options.scale;
  // A window as wide as the sequences is none; this also keeps the kernels' sums from overflowing.
  const int64_t widest = std::max(inputs.q.shape[1], inputs.k.shape[1]);
  inputs.window_left = options.window_left >= widest ? -1 : options.window_left;
  inputs.window_right = options.window_right >= widest ? -1 : options.window_right;
  inputs.dropout = dropout_of(options.dropout_p, options.seed, options.offset);
}

AttentionCall make_call(const Array& q, const Array& k, const Array& v, const Array* bias,
                        const Array* query_lengths, const Array* key_lengths, float scale,
                        int64_t window_left, int64_t window_right, double dropout_p, uint64_t seed,
                        uint64_t offset) {
  check_operands(q, k, v);
  kCheck.same_device({&q, &k, &v, bias, query_lengths, key_lengths});
  AttentionCall call{q, k, v, {}, {}, {}, {}, {}, {}};
  AttentionInputs& inputs = call.inputs;
  if (query_lengths != nullptr) {
    check_lengths("query_lengths", *query_lengths, q.size(0), q.size(1), Fault::query_length);
    call.query_lengths = *query_lengths;
  }
  if (key_lengths != nullptr) {
    check_lengths("key_lengths", *key_lengths, q.size(0), k.size(1), Fault::key_length);
    call.key_lengths = *key_lengths;
  }
  inputs.q = q.view();
  inputs.k = k.view();
  inputs.v = v.view();
  inputs.query_lengths = view_or_null(query_lengths);
  inputs.key_lengths = view_or_null(key_lengths);
  set_options({scale, window_left, window_right, dropout_p, seed, offset}, bias, &call);
  return call;
}

// The parts of qkv (batch, S, 3, heads, d); `lengths` are those of queries and keys.
AttentionCall make_qkv_call(const Array& qkv, const Array* bias, const Array* lengths, float scale,
                            int64_t window_left, int64_t window_right, double dropout_p,
                            uint64_t seed, uint64_t offset) {
  return make_call(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2), bias, lengths, lengths,
                   scale, window_left, window_right, dropout_p, seed, offset);
}

// Packed rows (1, total, heads, d) as (batch, longest, heads, d).
TensorView sequences_of(const Array& rows, int64_t batch, int64_t longest) {
  TensorView view = rows.view();
  view.shape[0] = batch;
  view.shape[1] = longest;
  view.strides[0] = 0;
  return view;
}

AttentionCall make_packed_call(const Array& q, const Array& k, const Array& v, const Array* bias,
                               const Array& query_offsets, const Array& key_offsets,
                               int64_t longest_query, int64_t longest_key, float scale,
                               int64_t window_left, int64_t window_right, double dropout_p,
                               uint64_t seed, uint64_t offset) {
  for (auto [name, array] : {std::pair{"q", &q}, std::pair{"k", &k}, std::pair{"v", &v}}) {
    kCheck.ndim(name, *array, 3);
  }
  kCheck.shape("k", k, {kAnyExtent, kAnyExtent, q.size(2)});
  kCheck.shape("v", v, {k.size(0), k.size(1), kAnyExtent});
  AttentionCall call{q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), {}, {}, {}, {}, {}, {}};
  check_operands(call.q, call.k, call.v);
  kCheck.same_device({&q, &k, &v, bias, &query_offsets, &key_offsets});
  check_offsets("cu_seqlens_q", query_offsets, q.size(0), longest_query);
  check_offsets("cu_seqlens_k", key_offsets, k.size(0), longest_key);
  kCheck.shape_like("cu_seqlens_k", key_offsets, query_offsets);
  const int64_t batch = query_offsets.size(0) - 1;
  AttentionInputs& inputs = call.inputs;
  inputs.q = sequences_of(call.q, batch, longest_query);
  inputs.k = sequences_of(call.k, batch, longest_key);
  inputs.v = sequences_of(call.v, batch, longest_key);
  call.query_offsets = query_offsets;
  call.key_offsets = key_offsets;
  inputs.query_offsets = query_offsets.view();
  inputs.key_offsets = key_offsets.view();
  inputs.packed_queries = q.size(0);
  inputs.packed_keys = k.size(0);
  set_options({scale, window_left, window_right, dropout_p, seed, offset}, bias, &call);
  return call;
}

// On the CPU, memory for `floats` of every thread that may run and for those that they share; on
// other devices for `device_bytes`.
Workspace make_workspace(const AttentionCall& call, int64_t floats, int64_t shared,
                         int64_t device_bytes) {
  const Device device = call.q.device();
  const int64_t threads = device.is_cpu() ? omp_get_max_threads() : 0;
  const int64_t bytes =
      4 * (attention_round_up(shared, 16) + threads * attention_round_up(floats, 16));
  return Workspace(device.is_cpu() ? bytes : device_bytes, current_execution(device));
}

// The gradient of `out`, with its shape and dense along the last dimension; the heads may lie side
// by side in one dimension.
Array incoming_gradient(const Array& dout, const Array& out) {
  const Checker check("attention backward");
  check.dtype("gradient", dout, {out.dtype()});
  const bool shaped = dout.shape() == out.shape();
  if (shaped && dout.view().strides[dout.ndim() - 1] == 1) return dout;
  if (dout.numel() != out.numel()) check.shape_like("gradient", dout, out);
  return (dout.contiguous() ? dout : converted(dout, dout.dtype())).reshape(out.shape());
}

// What belongs to queries, or to keys, as the kernels see it; null where it was not wanted.
TensorView query_rows(const AttentionCall& call, const Array* array) {
  if (array == nullptr || !call.packed()) return view_or_null(array);
  return sequences_of(array->unsqueeze(0), call.inputs.q.shape[0], call.inputs.q.shape[1]);
}
TensorView key_rows(const AttentionCall& call, const Array* array) {
  if (array == nullptr || !call.packed()) return view_or_null(array);
  return sequences_of(array->unsqueeze(0), call.inputs.k.shape[0], call.inputs.k.shape[1]);
}

// (batch, heads, Sq), or packed (heads, total)
TensorView lse_view(const AttentionCall& call, const Array& lse) {
  if (!call.packed()) return lse.view();
  TensorView view = lse.unsqueeze(0).view();
  view.shape[0] = call.inputs.q.shape[0];
  view.shape[2] = call.inputs.q.shape[1];
  view.strides[0] = 0;
  return view;
}

// What a kernel that found wrong offsets on its device leads to, once it has been waited for.
void check_offsets_found(const AttentionCall& call, const FaultReport& report) {
  if (report.position() < 0) return;
  const AttentionInputs& inputs = call.inputs;
  check_offset_values("cu_seqlens_q", moved(*call.query_offsets, Device{}, false),
                      inputs.packed_queries, inputs.q.shape[1]);
  check_offset_values("cu_seqlens_k", moved(*call.key_offsets, Device{}, false), inputs.packed_keys,
                      inputs.k.shape[1]);
}

// (out (batch, Sq, heads, dv), lse (batch, heads, Sq)), or packed ((total, heads, dv),
// (heads, total)); `recorded` says whether backward follows.
py::tuple forward(const AttentionCall& call, bool recorded) {
  const int64_t batch = call.q.size(0), rows = call.q.size(1), heads = call.q.size(2);
  const int64_t columns = call.v.size(3);
  std::vector<int64_t> out_shape = {batch, rows, heads, columns}, lse_shape = {batch, heads, rows};
  if (call.packed()) out_shape = {rows, heads, columns}, lse_shape = {heads, rows};
  const Array out = Array::empty(out_shape, call.q.dtype(), call.q.device());
  const Array lse = Array::empty(lse_shape, DType::float32, call.q.device());
  AttentionForward args;
  static_cast<AttentionInputs&>(args) = call.inputs;
  args.out = query_rows(call, &out);
  args.lse = lse_view(call, lse);
  args.recorded = recorded;
  FaultReport report(call.q.device(), Fault::packed_offset);
  args.fault = report.slot();
  const Workspace workspace = make_workspace(call, attention_forward_floats(args),
                                             attention_forward_shared_floats(args), 0);
  args.workspace = workspace.data();
  PYMODEL_RUN(attention_forward, call.q.device(), args);
  check_offsets_found(call, report);
  return py::make_tuple(out, lse);
}

void backward(const AttentionCall& call, const Array& out, const Array& given_dout,
              const Array& lse, const Array* dq, const Array* dk, const Array* dv) {
  const Array dout = incoming_gradient(given_dout, out);
  AttentionBackward args;
  static_cast<AttentionInputs&>(args) = call.inputs;
  args.out = query_rows(call, &out);
  args.dout = query_rows(call, &dout);
  args.lse = lse_view(call, lse);
  args.dq = query_rows(call, dq);
  args.dk = key_rows(call, dk);
  args.dv = key_rows(call, dv);
  const Workspace workspace =
      make_workspace(call, attention_backward_floats(args), attention_shared_floats(args),
                     attention_backward_device_workspace(args));
  args.workspace = workspace.data();
  PYMODEL_RUN(attention_backward, call.q.device(), args);
}

// (batch, S, 3, heads, d), the gradient of what `make_qkv_call` was given.
Array backward_qkv(const AttentionCall& call, const Array& out, const Array& dout,
                   const Array& lse) {
  const Array& q = call.q;
  const Array dqkv =
      Array::empty({q.size(0), q.size(1), 3, q.size(2), q.size(3)}, q.dtype(), q.device());
  const Array dq = dqkv.select(2, 0), dk = dqkv.select(2, 1), dv = dqkv.select(2, 2);
  backward(call, out, dout, lse, &dq, &dk, &dv);
  return dqkv;
}

void bias_gradient(const AttentionCall& call, const Array& out, const Array& given_dout,
                   const Array& lse, const Array& dbias) {
  const Array dout = incoming_gradient(given_dout, out);
  AttentionBiasGradient args;
  static_cast<AttentionInputs&>(args) = call.inputs;
  args.out = query_rows(call, &out);
  args.dout = query_rows(call, &dout);
  args.lse = lse_view(call, lse);
  args.dbias = dbias.view();
  const Workspace workspace = make_workspace(call, attention_bias_gradient_floats(args), 0,
                                             attention_backward_device_workspace(args));
  args.workspace = workspace.data();
  PYMODEL_RUN(attention_bias_gradient, call.q.device(), args);
}

void dropout_mask(const Array& mask, double p, uint64_t seed, uint64_t offset) {
  kCheck.ndim("mask", mask, 4);
  kCheck.dtype("mask", mask, {DType::boolean});
  kCheck.contiguous("mask", mask);
  AttentionDropoutMask args;
  args.mask = mask.view();
  args.dropout = dropout_of(p, seed, offset);
  PYMODEL_RUN(attention_dropout_mask, mask.device(), args);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  py::class_<AttentionCall>(m, "AttentionCall")
      .def(py::init(&make_call), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("bias"),
           py::arg("query_lengths"), py::arg("key_lengths"), py::arg("scale"),
           py::arg("window_left"), py::arg("window_right"), py::arg("dropout_p"), py::arg("seed"),
           py::arg("offset"))
      .def_static("qkv", &make_qkv_call, py::arg("qkv"), py::arg("bias"), py::arg("lengths"),
                  py::arg("scale"), py::arg("window_left"), py::arg("window_right"),
                  py::arg("dropout_p"), py::arg("seed"), py::arg("offset"))
      .def_static("packed", &make_packed_call, py::arg("q"), py::arg("k"), py::arg("v"),
                  py::arg("bias"), py::arg("query_offsets"), py::arg("key_offsets"),
                  py::arg("longest_query"), py::arg("longest_key"), py::arg("scale"),
                  py::arg("window_left"), py::arg("window_right"), py::arg("dropout_p"),
                  py::arg("seed"), py::arg("offset"));
  m.def("attention_forward", &forward);
  m.def("attention_backward", &backward);
  m.def("attention_backward_qkv", &backward_qkv);
  m.def("attention_bias_gradient", &bias_gradient);
  m.def("attention_dropout_mask", &dropout_mask);
}

}  // namespace pymodel
