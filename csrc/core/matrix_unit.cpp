#include "core/matrix_unit.h"

#include <cstdlib>
#include <string>

#include "core/isa.h"

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pymodel {

constexpr const char* kName = "amx_bf16";

#if defined(PYMODEL_X86) && defined(__linux__) && defined(__x86_64__)
// Linux makes room for the 8 KiB of tile registers of each thread only in a process that asked
// ("Using XSTATE features in user space applications" in the kernel's documentation). A sandbox or
// an old kernel may refuse. The permission holds for all threads.
static bool permit_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

static bool detect() {
  return detected_isa() == Isa::avx512_bf16 && __builtin_cpu_supports("amx-tile") &&
         __builtin_cpu_supports("amx-bf16") && permit_tiles();
}
#else
static bool detect() { return false; }
#endif

static bool detected_matrix_unit() {
  static const bool detected = detect();
  return detected;
}

static bool choose() {
  const char* forced = std::getenv("PYMODEL_CPU_ISA");
  const bool wanted = forced == nullptr || *forced == '\0' || forced == std::string(kName);
  return wanted && detected_matrix_unit();
}

bool matrix_unit_on() {
  static const bool on = choose();
  return on;
}

const char* active_isa_name() { return matrix_unit_on() ? kName : isa_name(active_isa()); }

const char* detected_isa_name() {
  return detected_matrix_unit() ? kName : isa_name(detected_isa());
}

}  // namespace pymodel
