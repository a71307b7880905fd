#include "core/isa.h"

#include <cstdlib>
#include <stdexcept>

#include "core/matrix_unit.h"

namespace pymodel {

Isa detected_isa() {
#ifdef PYMODEL_X86
  // __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) return Isa::avx512_bf16;
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::generic;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    case Isa::generic:
      break;
  }
  return "generic";
}

static Isa choose_isa() {
  const Isa detected = detected_isa();
  const char* forced = std::getenv("PYMODEL_CPU_ISA");
  if (forced == nullptr || *forced == '\0') return detected;
  const std::string name = forced;
  bool known = name == "amx_bf16";
  if (known && name == detected_isa_name()) return detected;
  for (Isa isa : {Isa::generic, Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    if (name == isa_name(isa) && isa <= detected) return isa;
    known = known || name == isa_name(isa);
  }
  throw std::invalid_argument(
      "PYMODEL_CPU_ISA=" + name +
      (known ? std::string(": this machine supports only up to ") + detected_isa_name()
             : ": expected generic, avx2, avx512, avx512_bf16 or amx_bf16"));
}

Isa active_isa() {
  static const Isa chosen = choose_isa();
  return chosen;
}

}  // namespace pymodel
