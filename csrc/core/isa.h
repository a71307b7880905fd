// Which instruction set the CPU kernels run with, and how one of their builds is chosen.
#pragma once

#include <string>

namespace pymodel {

// In the order of preference; every later one includes the earlier.
enum class Isa { generic, avx2, avx512, avx512_bf16 };

// The best set this machine and its operating system support, or the one that the environment
// variable PYMODEL_CPU_ISA names. Throws std::invalid_argument for an unknown or unsupported name.
Isa active_isa();

// The best set of this machine, whatever the environment says.
Isa detected_isa();

const char* isa_name(Isa isa);

}  // namespace pymodel

// Kernels are declared once and exist once per instruction set, each in its own namespace.
#ifdef PYMODEL_X86
#define PYMODEL_DECLARE_KERNEL(name, Arguments) \
  namespace cpu::generic {                      \
  void name(const Arguments&);                  \
  }                                             \
  namespace cpu::avx2 {                         \
  void name(const Arguments&);                  \
  }                                             \
  namespace cpu::avx512 {                       \
  void name(const Arguments&);                  \
  }                                             \
  namespace cpu::avx512_bf16 {                  \
  void name(const Arguments&);                  \
  }
#define PYMODEL_CPU_KERNEL(name)                                                        \
  ::pymodel::choose_kernel(&::pymodel::cpu::generic::name, &::pymodel::cpu::avx2::name, \
                           &::pymodel::cpu::avx512::name, &::pymodel::cpu::avx512_bf16::name)
#else
#define PYMODEL_DECLARE_KERNEL(name, Arguments) \
  namespace cpu::generic {                      \
  void name(const Arguments&);                  \
  }
#define PYMODEL_CPU_KERNEL(name) (&::pymodel::cpu::generic::name)
#endif

namespace pymodel {

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
