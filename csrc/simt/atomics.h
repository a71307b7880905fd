// CUDA's atomic functions. All threads share one OS thread and switch only where they wait, so
// plain reads and writes are atomic.
#pragma once

#include "simt/block.h"

namespace pymodel::simt {
namespace emulator {

// A thread that spins on an atomic would never let the others run: now and then it does.
inline void breathe() {
  static int calls = 0;
  if (++calls < 1024) return;
  calls = 0;
  yield();
}

template <typename T, typename Update>
inline T update(T* address, Update&& next) {
  const T old = *address;
  *address = next(old);
  return old;
}

}  // namespace emulator

#define PYMODEL_SIMT_ATOMIC(name, type, expression)                                         \
  inline type name(type* address, type value) {                                             \
    return emulator::update(address,                                                        \
                            [&]([[maybe_unused]] type old) -> type { return expression; }); \
  }
#define PYMODEL_SIMT_ATOMICS(type)                                                            \
  PYMODEL_SIMT_ATOMIC(atomicAdd, type, old + value)                                           \
  PYMODEL_SIMT_ATOMIC(atomicMin, type, value < old ? value : old)                             \
  PYMODEL_SIMT_ATOMIC(atomicMax, type, old < value ? value : old)                             \
  PYMODEL_SIMT_ATOMIC(atomicAnd, type, old& value)                                            \
  PYMODEL_SIMT_ATOMIC(atomicOr, type, old | value)                                            \
  PYMODEL_SIMT_ATOMIC(atomicXor, type, old ^ value)                                           \
  inline type atomicExch(type* address, type value) {                                         \
    emulator::breathe();                                                                      \
    return emulator::update(address, [&](type) { return value; });                            \
  }                                                                                           \
  inline type atomicCAS(type* address, type compare, type value) {                            \
    emulator::breathe();                                                                      \
    return emulator::update(address, [&](type old) { return old == compare ? value : old; }); \
  }
PYMODEL_SIMT_ATOMICS(int)
PYMODEL_SIMT_ATOMICS(unsigned)
PYMODEL_SIMT_ATOMICS(unsigned long long)
PYMODEL_SIMT_ATOMIC(atomicAdd, float, old + value)
PYMODEL_SIMT_ATOMIC(atomicAdd, double, old + value)
PYMODEL_SIMT_ATOMIC(atomicExch, float, value)
#undef PYMODEL_SIMT_ATOMICS
#undef PYMODEL_SIMT_ATOMIC

inline int atomicSub(int* address, int value) { return atomicAdd(address, -value); }
inline unsigned atomicSub(unsigned* address, unsigned value) {
  return atomicAdd(address, 0u - value);
}
// Counts up to `limit`, then starts again from 0.
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return emulator::update(address, [&](unsigned old) { return old >= limit ? 0 : old + 1; });
}

}  // namespace pymodel::simt
