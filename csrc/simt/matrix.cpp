#include "simt/matrix.h"

#include <cstring>

#include "simt/block.h"
#include "simt/collective.h"
#include "simt/shared_memory.h"

namespace pymodel::simt::emulator {
namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;

// ---------------------------------------------------------------------------------------------
// ldmatrix and stmatrix

struct MatricesOperand {
  unsigned char* row;
  uint32_t* registers;
};

template <int count>
void check_rows(void* const* operands, const char* operation) {
  for (int lane = 0; lane < 8 * count; ++lane) {
    check_shared(static_cast<MatricesOperand*>(operands[lane])->row, 16, operation);
  }
}

// Calls move(element in memory, element in a register) for each element of each matrix.
template <int count, bool transposed, typename Move>
void for_each_element(void* const* operands, Move&& move) {
  for (int matrix = 0; matrix < count; ++matrix) {
    for (int i = 0; i < 8; ++i) {
      unsigned char* row = static_cast<MatricesOperand*>(operands[8 * matrix + i])->row;
      for (int j = 0; j < 8; ++j) {
        // Lane r * 4 + c / 2 of the fragment holds element (r, c) in half c % 2.
        const int r = transposed ? j : i, c = transposed ? i : j;
        auto* held = reinterpret_cast<unsigned char*>(
            &static_cast<MatricesOperand*>(operands[4 * r + c / 2])->registers[matrix]);
        move(row + 2 * j, held + 2 * (c % 2));
      }
    }
  }
}

template <int count, bool transposed>
void combine_load(void* const* operands, uint32_t) {
  check_rows<count>(operands, "ldmatrix");
  for_each_element<count, transposed>(
      operands, [](unsigned char* memory, unsigned char* held) { std::memcpy(held, memory, 2); });
}

template <int count, bool transposed>
void combine_store(void* const* operands, uint32_t) {
  check_rows<count>(operands, "stmatrix");
  for_each_element<count, transposed>(
      operands, [](unsigned char* memory, unsigned char* held) { std::memcpy(memory, held, 2); });
}

// Indexed by [transposed][count / 2]: 1, 2 and 4 matrices.
constexpr Collective kLoads[2][3] = {{{"ldmatrix.x1", combine_load<1, false>},
                                      {"ldmatrix.x2", combine_load<2, false>},
                                      {"ldmatrix.x4", combine_load<4, false>}},
                                     {{"ldmatrix.x1.trans", combine_load<1, true>},
                                      {"ldmatrix.x2.trans", combine_load<2, true>},
                                      {"ldmatrix.x4.trans", combine_load<4, true>}}};
constexpr Collective kStores[2][3] = {{{"stmatrix.x1", combine_store<1, false>},
                                       {"stmatrix.x2", combine_store<2, false>},
                                       {"stmatrix.x4", combine_store<4, false>}},
                                      {{"stmatrix.x1.trans", combine_store<1, true>},
                                       {"stmatrix.x2.trans", combine_store<2, true>},
                                       {"stmatrix.x4.trans", combine_store<4, true>}}};

// ---------------------------------------------------------------------------------------------
// mma.sync

struct ProductOperand {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

// d += a b in the order of k, each row of d in registers of the vector unit.
template <int depth>
void multiply(float (&d)[16][8], const float (&a)[16][depth], const float (&b)[depth][8]) {
  for (int row = 0; row < 16; ++row) {
    float sums[8];
    std::memcpy(sums, d[row], sizeof sums);
    for (int k = 0; k < depth; ++k) {
      const float factor = a[row][k];
      for (int column = 0; column < 8; ++column) sums[column] += factor * b[k][column];
    }
    std::memcpy(d[row], sums, sizeof sums);
  }
}

// d[2 h], d[2 h + 1] of lane i are row i / 4 + 8 h, columns 2 (i % 4) and the next.
void gather_sums(void* const* operands, float (&d)[16][8]) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const float* held = static_cast<ProductOperand*>(operands[lane])->d;
    for (int half = 0; half < 2; ++half) {
      std::memcpy(&d[lane / 4 + 8 * half][2 * (lane % 4)], held + 2 * half, 2 * sizeof(float));
    }
  }
}

void scatter_sums(void* const* operands, const float (&d)[16][8]) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* held = static_cast<ProductOperand*>(operands[lane])->d;
    for (int half = 0; half < 2; ++half) {
      std::memcpy(held + 2 * half, &d[lane / 4 + 8 * half][2 * (lane % 4)], 2 * sizeof(float));
    }
  }
}

inline float widen(uint32_t bits, __half) { return half_to_float(static_cast<uint16_t>(bits)); }
inline float widen(uint32_t bits, __nv_bfloat16) {
  return bfloat16_to_float(static_cast<uint16_t>(bits));
}

// For lane i, group = i / 4 and pair = 2 (i % 4): register v of a holds row group + 8 (v % 2),
// columns pair + 8 (v / 2) and the next; register v of b rows pair + 8 v and the next of column
// group.
template <typename T>
void combine_16x8x16(void* const* operands, uint32_t) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto& operand = *static_cast<ProductOperand*>(operands[lane]);
    const int group = lane / 4, pair = 2 * (lane % 4);
    for (int v = 0; v < 4; ++v) {
      float* two = &a[group + 8 * (v % 2)][pair + 8 * (v / 2)];
      two[0] = widen(operand.a[v], T{});
      two[1] = widen(operand.a[v] >> 16, T{});
    }
    for (int v = 0; v < 2; ++v) {
      b[pair + 8 * v][group] = widen(operand.b[v], T{});
      b[pair + 8 * v + 1][group] = widen(operand.b[v] >> 16, T{});
    }
  }
  gather_sums(operands, d);
  multiply(d, a, b);
  scatter_sums(operands, d);
}

// Register v of a is row group + 8 (v % 2), column i % 4 + 4 (v / 2); of b row i % 4 + 4 v of
// column group.
void combine_16x8x8(void* const* operands, uint32_t) {
  constexpr uint32_t kUsed = ~0x1fffu;
  float a[16][8], b[8][8], d[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto& operand = *static_cast<ProductOperand*>(operands[lane]);
    for (int v = 0; v < 4; ++v) {
      a[lane / 4 + 8 * (v % 2)][lane % 4 + 4 * (v / 2)] = bits_as<float>(operand.a[v] & kUsed);
    }
    for (int v = 0; v < 2; ++v) {
      b[lane % 4 + 4 * v][lane / 4] = bits_as<float>(operand.b[v] & kUsed);
    }
  }
  gather_sums(operands, d);
  multiply(d, a, b);
  scatter_sums(operands, d);
}

template <typename T>
constexpr Collective kProduct = {"mma.m16n8k16", combine_16x8x16<T>};
constexpr Collective kProductTf32 = {"mma.m16n8k8.tf32", combine_16x8x8};

}  // namespace

void load_matrices(int count, bool transposed, const void* shared_row, uint32_t* registers) {
  MatricesOperand operand{static_cast<unsigned char*>(const_cast<void*>(shared_row)), registers};
  exchange(kLoads[transposed][count / 2], kAllLanes, &operand);
}

void store_matrices(int count, bool transposed, void* shared_row, const uint32_t* registers) {
  MatricesOperand operand{static_cast<unsigned char*>(shared_row),
                          const_cast<uint32_t*>(registers)};
  exchange(kStores[transposed][count / 2], kAllLanes, &operand);
}

template <typename T>
void multiply_16x8x16(float* d, const uint32_t* a, const uint32_t* b) {
  ProductOperand operand{d, a, b};
  exchange(kProduct<T>, kAllLanes, &operand);
}
template void multiply_16x8x16<__half>(float*, const uint32_t*, const uint32_t*);
template void multiply_16x8x16<__nv_bfloat16>(float*, const uint32_t*, const uint32_t*);

void multiply_16x8x8_tf32(float* d, const uint32_t* a, const uint32_t* b) {
  ProductOperand operand{d, a, b};
  exchange(kProductTf32, kAllLanes, &operand);
}

}  // namespace pymodel::simt::emulator
