// CPU binary operations: every operation is one loop over dense blocks (blocks.h). A constant side
// is spread over one block and stays in the first-level cache.
#include "ops/elementwise/blocks.h"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/strided_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// ---------------------------------------------------------------------------------------------
// Single operations

template <BinaryOp op>
PYMODEL_INLINE Vec apply(Vec a, Vec b) {
  if constexpr (op == BinaryOp::add) return a + b;
  if constexpr (op == BinaryOp::sub) return a - b;
  if constexpr (op == BinaryOp::mul) return a * b;
  if constexpr (op == BinaryOp::div) return a / b;
  if constexpr (op == BinaryOp::maximum) return a != a ? a : max(a, b);
  if constexpr (op == BinaryOp::minimum) return a != a ? a : min(a, b);
  if constexpr (op == BinaryOp::pow) {
    // exp(b * log(a)) would multiply the rounding error by the exponent; the C library is exact
    // to an ulp and knows every special case.
    Vec result = a;
    for (int i = 0; i < kLanes; ++i) result[i] = __builtin_powf(a[i], b[i]);
    return result;
  }
}

// All ones in lanes where the comparison holds; for scalars a bool.
template <BinaryOp op, typename V>
PYMODEL_INLINE auto compare(V a, V b) {
  if constexpr (op == BinaryOp::eq) return a == b;
  if constexpr (op == BinaryOp::ne) return a != b;
  if constexpr (op == BinaryOp::lt) return a < b;
  if constexpr (op == BinaryOp::le) return a <= b;
  if constexpr (op == BinaryOp::gt) return a > b;
  if constexpr (op == BinaryOp::ge) return a >= b;
}

// Integers wrap around on overflow, which only unsigned arithmetic may do in C++.
template <BinaryOp op>
PYMODEL_INLINE int64_t apply(int64_t a, int64_t b) {
  const auto left = static_cast<uint64_t>(a), right = static_cast<uint64_t>(b);
  if constexpr (op == BinaryOp::add) return static_cast<int64_t>(left + right);
  if constexpr (op == BinaryOp::sub) return static_cast<int64_t>(left - right);
  if constexpr (op == BinaryOp::mul) return static_cast<int64_t>(left * right);
  if constexpr (op == BinaryOp::maximum) return a > b ? a : b;
  if constexpr (op == BinaryOp::minimum) return a < b ? a : b;
}

// ---------------------------------------------------------------------------------------------
// Blocks. Results are float, int64_t, or bytes for comparisons.

template <BinaryOp op>
static void float_block(const float* a, const float* b, void* out, int64_t count) {
  for_each_vector(count, [&](int64_t i, int64_t n) {
    const Vec left = load_lanes(a + i, n), right = load_lanes(b + i, n);
    if constexpr (is_comparison(op)) {
      typedef int8_t Bytes __attribute__((vector_size(kLanes)));
      const Bytes bits = __builtin_convertvector(compare<op>(left, right), Bytes) & 1;
      memcpy(static_cast<uint8_t*>(out) + i, &bits, static_cast<size_t>(n));
    } else {
      store_lanes(static_cast<float*>(out) + i, apply<op>(left, right), n);
    }
  });
}

template <BinaryOp op>
static void integer_block(const int64_t* a, const int64_t* b, void* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (is_comparison(op)) {
      static_cast<uint8_t*>(out)[i] = compare<op>(a[i], b[i]);
    } else {
      static_cast<int64_t*>(out)[i] = apply<op>(a[i], b[i]);
    }
  }
}

struct Blocks {
  void (*floats)(const float*, const float*, void*, int64_t);
  void (*integers)(const int64_t*, const int64_t*, void*, int64_t);  // null: floats only
};

template <BinaryOp op>
PYMODEL_INLINE Blocks blocks_of() {
  if constexpr (op == BinaryOp::div || op == BinaryOp::pow) {
    return {float_block<op>, nullptr};
  } else {
    return {float_block<op>, integer_block<op>};
  }
}

static Blocks choose_blocks(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
      return blocks_of<BinaryOp::add>();
    case BinaryOp::sub:
      return blocks_of<BinaryOp::sub>();
    case BinaryOp::mul:
      return blocks_of<BinaryOp::mul>();
    case BinaryOp::div:
      return blocks_of<BinaryOp::div>();
    case BinaryOp::maximum:
      return blocks_of<BinaryOp::maximum>();
    case BinaryOp::minimum:
      return blocks_of<BinaryOp::minimum>();
    case BinaryOp::pow:
      return blocks_of<BinaryOp::pow>();
    case BinaryOp::eq:
      return blocks_of<BinaryOp::eq>();
    case BinaryOp::ne:
      return blocks_of<BinaryOp::ne>();
    case BinaryOp::lt:
      return blocks_of<BinaryOp::lt>();
    case BinaryOp::le:
      return blocks_of<BinaryOp::le>();
    case BinaryOp::gt:
      return blocks_of<BinaryOp::gt>();
    case BinaryOp::ge:
      return blocks_of<BinaryOp::ge>();
  }
  return {};
}

// ---------------------------------------------------------------------------------------------
// Runs

// How floats and integers pass through blocks.
struct Floats {
  using Wide = float;
  PYMODEL_INLINE float scalar(const Scalar& s) { return static_cast<float>(s.real); }
  PYMODEL_INLINE const float* load(DType dtype, const char* data, int64_t stride, int64_t count,
                                   float* buffer) {
    return load_floats(dtype, data, stride, count, buffer);
  }
  PYMODEL_INLINE float* target(DType dtype, char* data, int64_t stride, float* buffer) {
    return float_target(dtype, data, stride, buffer);
  }
  PYMODEL_INLINE void store(DType dtype, const float* values, int64_t count, char* data,
                            int64_t stride) {
    store_floats(dtype, values, count, data, stride);
  }
};

struct Integers {
  using Wide = int64_t;
  PYMODEL_INLINE int64_t scalar(const Scalar& s) { return s.integer; }
  PYMODEL_INLINE const int64_t* load(DType dtype, const char* data, int64_t stride, int64_t count,
                                     int64_t* buffer) {
    return load_integers(dtype, data, stride, count, buffer);
  }
  PYMODEL_INLINE int64_t* target(DType, char*, int64_t, int64_t* buffer) { return buffer; }
  PYMODEL_INLINE void store(DType dtype, const int64_t* values, int64_t count, char* data,
                            int64_t stride) {
    store_integers(dtype, values, count, data, stride);
  }
};

// One side of a run as blocks; one that does not move is spread over `buffer` once.
template <typename Kind>
struct Side {
  using Wide = typename Kind::Wide;

  void start(const TensorView& view, const Scalar& number, const char* pointer, int64_t step,
             int64_t count) {
    data = pointer;
    stride = step;
    dtype = view.dtype;
    if (stride != 0) return;
    Wide value = Kind::scalar(number);
    if (data != nullptr) value = *Kind::load(dtype, data, 0, 1, buffer);
    const int64_t n = count < kBlock ? count : kBlock;
    for (int64_t i = 0; i < n; ++i) buffer[i] = value;
  }
  const Wide* block(int64_t begin, int64_t count) {
    if (stride == 0) return buffer;
    return Kind::load(dtype, data + begin * stride, stride, count, buffer);
  }

  const char* data;
  int64_t stride;
  DType dtype;
  Wide buffer[kBlock];
};

template <typename Kind, typename Block>
static void run_blocks(const BinaryArguments& args, const StridedLoop<3>& loop, Block block,
                       char* const* p, int64_t count) {
  using Wide = typename Kind::Wide;
  Side<Kind> a, b;
  a.start(args.a, args.scalar, p[1], loop.inner_stride(1), count);
  b.start(args.b, args.scalar, p[2], loop.inner_stride(2), count);
  const int64_t out_stride = loop.inner_stride(0);
  Wide results[kBlock];
  for (int64_t i = 0; i < count; i += kBlock) {
    const int64_t n = count - i < kBlock ? count - i : kBlock;
    char* out = p[0] + i * out_stride;
    if (is_comparison(args.op)) {
      uint8_t* bytes = reinterpret_cast<uint8_t*>(results);
      if (out_stride == 1) bytes = reinterpret_cast<uint8_t*>(out);
      block(a.block(i, n), b.block(i, n), bytes, n);
      if (out_stride == 1) continue;
      for (int64_t j = 0; j < n; ++j) out[j * out_stride] = static_cast<char>(bytes[j]);
    } else {
      Wide* target = Kind::target(args.out.dtype, out, out_stride, results);
      block(a.block(i, n), b.block(i, n), target, n);
      Kind::store(args.out.dtype, target, n, out, out_stride);
    }
  }
}

}  // namespace

void binary(const BinaryArguments& args) {
  const StridedLoop<3> loop = make_loop<3>({&args.out, &args.a, &args.b});
  const Blocks blocks = choose_blocks(args.op);
  const DType dtype = args.a.data != nullptr ? args.a.dtype : args.b.dtype;
  if (is_floating(dtype)) {
    const int64_t cost = args.op == BinaryOp::pow ? 32 : 1;
    for_each_run(loop, cost, [&](char* const* p, int64_t count) {
      run_blocks<Floats>(args, loop, blocks.floats, p, count);
    });
  } else {
    for_each_run(loop, 4, [&](char* const* p, int64_t count) {
      run_blocks<Integers>(args, loop, blocks.integers, p, count);
    });
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
