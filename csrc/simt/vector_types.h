// CUDA's short vectors and dim3, with the alignments that its 8- and 16-byte accesses rely on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pymodel::simt {

#define PYMODEL_SIMT_VECTORS(element, name, bytes)                                     \
  struct alignas(sizeof(element)) name##1 { element x; };                              \
  struct alignas(2 * sizeof(element)) name##2 { element x, y; };                       \
  struct name##3 { element x, y, z; };                                                 \
  struct alignas(bytes) name##4 { element x, y, z, w; };                               \
  inline name##1 make_##name##1(element x) { return {x}; }                             \
  inline name##2 make_##name##2(element x, element y) { return {x, y}; }               \
  inline name##3 make_##name##3(element x, element y, element z) { return {x, y, z}; } \
  inline name##4 make_##name##4(element x, element y, element z, element w) { return {x, y, z, w}; }

PYMODEL_SIMT_VECTORS(signed char, char, 4)
PYMODEL_SIMT_VECTORS(unsigned char, uchar, 4)
PYMODEL_SIMT_VECTORS(short, short, 8)
PYMODEL_SIMT_VECTORS(unsigned short, ushort, 8)
PYMODEL_SIMT_VECTORS(int, int, 16)
PYMODEL_SIMT_VECTORS(unsigned int, uint, 16)
PYMODEL_SIMT_VECTORS(long long, longlong, 16)
PYMODEL_SIMT_VECTORS(unsigned long long, ulonglong, 16)
PYMODEL_SIMT_VECTORS(float, float, 16)
PYMODEL_SIMT_VECTORS(double, double, 16)
#undef PYMODEL_SIMT_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  operator uint3() const { return {x, y, z}; }
};

}  // namespace pymodel::simt
