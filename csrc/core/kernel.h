// How an operation's kernels are declared, one for each backend, and how one of them is chosen.
//
// PYMODEL_DECLARE_KERNEL(name, Arguments) stands below the contract in <op>.h and declares
//
//   pymodel::cpu::<isa>::name(const Arguments&)                      one per instruction set
//   pymodel::cuda::name(const Arguments&, const Execution&)          compiled by nvcc
//   pymodel::simt::name(const Arguments&, const Execution&)          the same source, emulated
//
// The last two are weak: in a build without that backend their address is null.
#pragma once

#include "core/isa.h"

namespace pymodel {

struct Execution;

#define PYMODEL_DECLARE_DEVICE_KERNEL(backend, name, Arguments)                   \
  namespace backend {                                                             \
  __attribute__((weak)) void name(const Arguments&, const ::pymodel::Execution&); \
  }

#ifdef PYMODEL_X86
#define PYMODEL_DECLARE_KERNEL(name, Arguments)        \
  namespace cpu::generic {                             \
  void name(const Arguments&);                         \
  }                                                    \
  namespace cpu::avx2 {                                \
  void name(const Arguments&);                         \
  }                                                    \
  namespace cpu::avx512 {                              \
  void name(const Arguments&);                         \
  }                                                    \
  namespace cpu::avx512_bf16 {                         \
  void name(const Arguments&);                         \
  }                                                    \
  PYMODEL_DECLARE_DEVICE_KERNEL(cuda, name, Arguments) \
  PYMODEL_DECLARE_DEVICE_KERNEL(simt, name, Arguments)
#define PYMODEL_CPU_KERNEL(name)                                                        \
  ::pymodel::choose_kernel(&::pymodel::cpu::generic::name, &::pymodel::cpu::avx2::name, \
                           &::pymodel::cpu::avx512::name, &::pymodel::cpu::avx512_bf16::name)
#else
#define PYMODEL_DECLARE_KERNEL(name, Arguments)        \
  namespace cpu::generic {                             \
  void name(const Arguments&);                         \
  }                                                    \
  PYMODEL_DECLARE_DEVICE_KERNEL(cuda, name, Arguments) \
  PYMODEL_DECLARE_DEVICE_KERNEL(simt, name, Arguments)
#define PYMODEL_CPU_KERNEL(name) (&::pymodel::cpu::generic::name)
#endif

template <typename Kernel>
static inline Kernel* choose_kernel(Kernel* generic, Kernel* avx2, Kernel* avx512, Kernel* bf16) {
  switch (active_isa()) {
    case Isa::avx512_bf16:
      return bf16;
    case Isa::avx512:
      return avx512;
    case Isa::avx2:
      return avx2;
    case Isa::generic:
      break;
  }
  return generic;
}

}  // namespace pymodel
