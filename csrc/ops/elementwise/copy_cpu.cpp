// CPU fill and copy. A copy that turns rows into columns goes through small tiles, so that both
// sides touch whole cache lines; all others run along the innermost dimension.
#include "ops/elementwise/blocks.h"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/strided_loop.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// Calls body with a zero of the unsigned type that has this many bytes: copies do not look inside.
template <typename Body>
PYMODEL_INLINE void dispatch_item_size(DType dtype, const Body& body) {
  switch (item_size(dtype)) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

// ---------------------------------------------------------------------------------------------
// Copies within one type

template <typename T>
static void copy_run(const char* x, int64_t x_stride, char* out, int64_t out_stride,
                     int64_t count) {
  if (x_stride == sizeof(T) && out_stride == sizeof(T)) {
    memmove(out, x, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    *reinterpret_cast<T*>(out + i * out_stride) = *reinterpret_cast<const T*>(x + i * x_stride);
  }
}

// A tile of two-byte elements spans a cache line in both directions.
constexpr int64_t kTile = 32;

// x is dense down the tile's rows, out along them. The odd row length of the buffer keeps the reads
// of its columns off a single cache set.
template <typename T>
static void copy_tile(const char* x, int64_t x_stride, char* out, int64_t out_stride, int64_t rows,
                      int64_t columns) {
  T buffer[kTile][kTile + 1];
  for (int64_t c = 0; c < columns; ++c) {
    memcpy(buffer[c], x + c * x_stride, static_cast<size_t>(rows) * sizeof(T));
  }
  for (int64_t r = 0; r < rows; ++r) {
    T* target = reinterpret_cast<T*>(out + r * out_stride);
    for (int64_t c = 0; c < columns; ++c) target[c] = buffer[c][r];
  }
}

template <typename T>
static void copy_transposed(const StridedLoop<2>& loop) {
  const int row_dim = loop.ndim - 2;
  const int64_t rows = loop.shape[row_dim], columns = loop.inner();
  const int64_t row_stride = loop.strides[0][row_dim], x_stride = loop.inner_stride(1);
  const int64_t matrices = loop.rows() / rows, bands = (rows + kTile - 1) / kTile;
  parallel_for(matrices * bands, matrices * rows * columns, [&](int64_t task) {
    const Cursor<2> matrix = cursor_at(loop, task / bands, 2);
    const int64_t row = task % bands * kTile;
    const int64_t height = rows - row < kTile ? rows - row : kTile;
    char* out = matrix.data[0] + row * row_stride;
    const char* x = matrix.data[1] + row * static_cast<int64_t>(sizeof(T));
    for (int64_t c = 0; c < columns; c += kTile) {
      const int64_t width = columns - c < kTile ? columns - c : kTile;
      copy_tile<T>(x + c * x_stride, x_stride, out + c * static_cast<int64_t>(sizeof(T)),
                   row_stride, height, width);
    }
  });
}

// ---------------------------------------------------------------------------------------------
// Conversions

static void convert_run(const CopyArguments& args, const char* x, int64_t x_stride, char* out,
                        int64_t out_stride, int64_t count) {
  const DType from = args.x.dtype, to = args.out.dtype;
  float float_buffer[kBlock];
  int64_t integer_buffer[kBlock];
  for (int64_t i = 0; i < count; i += kBlock) {
    const int64_t n = count - i < kBlock ? count - i : kBlock;
    const char* source = x + i * x_stride;
    char* target = out + i * out_stride;
    if (is_floating(from)) {
      const float* values = load_floats(from, source, x_stride, n, float_buffer);
      if (is_floating(to)) {
        store_floats(to, values, n, target, out_stride);
        continue;
      }
      const bool to_boolean = to == DType::boolean;
      for (int64_t j = 0; j < n; ++j) {
        integer_buffer[j] = to_boolean ? values[j] != 0.0f : to_integer(values[j]);
      }
      store_integers(to, integer_buffer, n, target, out_stride);
      continue;
    }
    const int64_t* values = load_integers(from, source, x_stride, n, integer_buffer);
    if (is_floating(to)) {
      for (int64_t j = 0; j < n; ++j) float_buffer[j] = static_cast<float>(values[j]);
      store_floats(to, float_buffer, n, target, out_stride);
    } else {
      if (to == DType::boolean) {
        for (int64_t j = 0; j < n; ++j) integer_buffer[j] = values[j] != 0;
        values = integer_buffer;
      }
      store_integers(to, values, n, target, out_stride);
    }
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Launchers

void fill(const FillArguments& args) {
  const DType dtype = args.out.dtype;
  char item[sizeof(int64_t)];
  const float real = static_cast<float>(args.value.real);
  if (is_floating(dtype)) {
    store_floats(dtype, &real, 1, item, 0);
  } else {
    store_integers(dtype, &args.value.integer, 1, item, 0);
  }
  const StridedLoop<1> loop = make_loop<1>({&args.out});
  const int64_t stride = loop.inner_stride(0);
  dispatch_item_size(dtype, [&](auto zero) {
    decltype(zero) value;
    memcpy(&value, item, sizeof value);
    for_each_run(loop, 1, [&](char* const* p, int64_t count) {
      if (stride == sizeof value) {
        for (int64_t i = 0; i < count; ++i) reinterpret_cast<decltype(zero)*>(p[0])[i] = value;
      } else {
        for (int64_t i = 0; i < count; ++i) memcpy(p[0] + i * stride, &value, sizeof value);
      }
    });
  });
}

void copy(const CopyArguments& args) {
  StridedLoop<2> loop = make_loop<2>({&args.out, &args.x});
  if (loop.rows() * loop.inner() == 0) return;
  if (args.x.dtype != args.out.dtype) {
    return for_each_run(loop, 1, [&](char* const* p, int64_t count) {
      convert_run(args, p[1], loop.inner_stride(1), p[0], loop.inner_stride(0), count);
    });
  }
  const bool transposed = find_transpose(&loop, static_cast<int64_t>(item_size(args.x.dtype)));
  dispatch_item_size(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (transposed) return copy_transposed<T>(loop);
    for_each_run(loop, 1, [&](char* const* p, int64_t count) {
      copy_run<T>(p[1], loop.inner_stride(1), p[0], loop.inner_stride(0), count);
    });
  });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
