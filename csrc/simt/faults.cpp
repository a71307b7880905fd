#include "simt/faults.h"

#include <pthread.h>
#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "simt/block.h"

namespace pymodel::simt::emulator {

#if defined(__SANITIZE_ADDRESS__)

FaultCatcher::FaultCatcher() {}
FaultCatcher::~FaultCatcher() {}

#else

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE};
constexpr int kSignalCount = sizeof kSignals / sizeof kSignals[0];

struct sigaction previous[kSignalCount];
pthread_t grid_thread;

std::string describe(int signal, const siginfo_t& info) {
  if (signal == SIGFPE) return "integer division by zero, or one that overflows";
  const auto address = reinterpret_cast<uintptr_t>(info.si_addr);
  const auto bottom = reinterpret_cast<uintptr_t>(block.current->stack.bottom);
  constexpr uintptr_t kNear = 4096;  // the unmapped page below a stack
  if (address < bottom && address + kNear >= bottom) {
    return "stack overflow: a thread has " + std::to_string(block.current->stack.bytes) + " bytes";
  }
  char text[64];
  std::snprintf(text, sizeof text, "illegal memory access at address %p", info.si_addr);
  return text;
}

// Runs on the signal stack. Leaving it for the launching code is a jump out of a handler, which
// is allowed for faults of the thread's own making.
void handle(int signal, siginfo_t* info, void*) {
  const bool in_kernel = block.current != nullptr && pthread_equal(pthread_self(), grid_thread);
  if (in_kernel) abandon_block(describe(signal, *info));
  for (int i = 0; i < kSignalCount; ++i) {
    // Not ours: the instruction faults again, under the handler that was there before.
    if (kSignals[i] == signal) sigaction(signal, &previous[i], nullptr);
  }
}

// A thread that has overflowed its stack has no room for a handler's frame.
void provide_signal_stack() {
  thread_local std::unique_ptr<char[]> memory;
  constexpr size_t kBytes = 64 * 1024;
  stack_t present{};
  if (sigaltstack(nullptr, &present) == 0 && !(present.ss_flags & SS_DISABLE) &&
      present.ss_size >= kBytes) {
    return;
  }
  if (memory == nullptr) memory.reset(new char[kBytes]);
  stack_t wanted{};
  wanted.ss_sp = memory.get();
  wanted.ss_size = kBytes;
  sigaltstack(&wanted, nullptr);
}

}  // namespace

FaultCatcher::FaultCatcher() {
  grid_thread = pthread_self();
  provide_signal_stack();
  struct sigaction action{};
  action.sa_sigaction = handle;
  // NODEFER: the handler does not return, and the signal must not stay blocked.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int i = 0; i < kSignalCount; ++i) sigaction(kSignals[i], &action, &previous[i]);
}

FaultCatcher::~FaultCatcher() {
  for (int i = 0; i < kSignalCount; ++i) sigaction(kSignals[i], &previous[i], nullptr);
}

#endif

}  // namespace pymodel::simt::emulator
