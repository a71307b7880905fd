// Machine faults in kernels: a bad address, a division by zero.
#pragma once

namespace pymodel::simt::emulator {

// While one lives, a fault of a kernel's thread ends the block with a report instead of ending the
// process. Elsewhere, faults do what they did before. Under AddressSanitizer it does nothing:
// that one's reports say more.
class FaultCatcher {
 public:
  FaultCatcher();
  ~FaultCatcher();
  FaultCatcher(const FaultCatcher&) = delete;
  FaultCatcher& operator=(const FaultCatcher&) = delete;
};

}  // namespace pymodel::simt::emulator
