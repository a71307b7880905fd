// Work over many tensors in one launch: the device's counterpart of cpu/tensor_list.h.
//
// The table of tensors travels in the kernel's parameters: nothing has to be copied beforehand or
// kept alive, and a captured graph holds its own. Parameters have room for 4 KB on every driver;
// longer lists take several launches.
#pragma once

#include "core/tensor_list.h"
#include "cuda/launch.h"
#include "cuda/numeric.cuh"

namespace pymodel::PYMODEL_BACKEND {

constexpr int64_t kBlockElements = 4096;    // of a block; a multiple of kListAlignment
constexpr int kListThreads = 256;           // of a block
constexpr size_t kTableBytes = 4096 - 128;  // the rest is left to the kernel's other parameters

template <typename Tensor>
struct TensorTable {
  static constexpr int kCapacity = (kTableBytes - 8) / (sizeof(Tensor) + 8);
  int64_t starts[kCapacity];  // numbers of the tensors' first elements, counted as in TensorList
  int count;
  Tensor tensors[kCapacity];
};

// Calls body(table, first, blocks) for tables that cover the list in its order: `first` is the
// number of a table's first tensor, `blocks` the size of its grid.
template <typename Tensor, typename Body>
void for_each_table(const TensorList& list, const Tensor* tensors, const Body& body) {
  using Table = TensorTable<Tensor>;
  static_assert(sizeof(Table) <= kTableBytes, "the table would not fit into the parameters");
  for (int64_t first = 0; first < list.count; first += Table::kCapacity) {
    Table table{};
    const int64_t rest = list.count - first;
    table.count = static_cast<int>(rest < Table::kCapacity ? rest : Table::kCapacity);
    for (int i = 0; i < table.count; ++i) {
      table.starts[i] = list.starts[first + i] - list.starts[first];
      table.tensors[i] = tensors[first + i];
    }
    const int64_t elements = list.starts[first + table.count] - list.starts[first];
    body(table, first, blocks_for(elements, kBlockElements));
  }
}

// Calls body(t, begin, end) for the part of every tensor that belongs to this block; `begin` and
// `end` count from the first element of tensor t of the table.
template <typename Tensor, typename Body>
__device__ __forceinline__ void for_each_piece(const TensorTable<Tensor>& table, const Body& body) {
  const int64_t first = blockIdx.x * kBlockElements, last = first + kBlockElements;
  int low = 0, high = table.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (table.starts[middle] <= first) {
      low = middle;
    } else {
      high = middle;
    }
  }
  for (int t = low; t < table.count && table.starts[t] < last; ++t) {
    const int64_t start = table.starts[t];
    const int64_t begin = first > start ? first - start : 0;
    const int64_t end = min(last - start, table.tensors[t].count);
    if (begin < end) body(t, begin, end);
  }
}

// Shares the elements begin to end of a piece among the threads of the block: calls
// body(i, std::integral_constant<int, N>) for elements i to i + N - 1, where N is `width` while
// that many are left and `aligned` says that their addresses suit it, else 1. `begin` is a multiple
// of the width.
template <int width, typename Body>
__device__ __forceinline__ void for_each_group(int64_t begin, int64_t end, bool aligned,
                                               const Body& body) {
  const int64_t middle = aligned ? end - (end - begin) % width : begin;
  for (int64_t i = begin + int64_t{threadIdx.x} * width; i < middle; i += blockDim.x * width) {
    body(i, std::integral_constant<int, width>{});
  }
  for (int64_t i = middle + threadIdx.x; i < end; i += blockDim.x) {
    body(i, std::integral_constant<int, 1>{});
  }
}

// ---------------------------------------------------------------------------------------------
// Groups of neighbours in float32, whatever they are stored as, by accesses of at most 16 bytes

template <int count, typename T>
__device__ __forceinline__ void load_group(const T* from, float (&values)[count]) {
  constexpr int N = count < kVectorLength<T> ? count : kVectorLength<T>;
#pragma unroll
  for (int first = 0; first < count; first += N) {
    const Packed<T, N> pack = load_packed<N>(from + first);
#pragma unroll
    for (int i = 0; i < N; ++i) values[first + i] = to_float(pack.element[i]);
  }
}

template <int count, typename T>
__device__ __forceinline__ void store_group(T* to, const float (&values)[count]) {
  constexpr int N = count < kVectorLength<T> ? count : kVectorLength<T>;
#pragma unroll
  for (int first = 0; first < count; first += N) {
    Packed<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.element[i] = from_float<T>(values[first + i]);
    store_packed<N>(to + first, pack);
  }
}

// Whether groups may be loaded from all of these; null pointers do not matter.
template <typename... Pointers>
__device__ __forceinline__ bool groups_fit(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) | ... | uintptr_t{0})) % 16 == 0;
}

// A factor that may lie on the device, where the host does not wait for it.
struct DeviceFactor {
  float factor;
  const float* on_device;  // null: 1

  __device__ __forceinline__ float operator()() const {
    return on_device == nullptr ? factor : factor * *on_device;
  }
};

// Calls body with a value of the type that `dtype` names, from inside a kernel.
template <typename Body>
__device__ __forceinline__ void dispatch_on_device(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float16:
      return body(__half{});
    case DType::bfloat16:
      return body(__nv_bfloat16{});
    default:
      return body(float{});
  }
}

}  // namespace pymodel::PYMODEL_BACKEND
