// mbarriers: counters in shared memory. The hardware leaves the layout of their 64 bits open.
#include <cstring>

#include "simt/barrier.h"
#include "simt/block.h"
#include "simt/shared_memory.h"

namespace pymodel::simt::emulator {
namespace {

constexpr uint32_t kMark = 0x6d62;  // so that memory nobody has set up is told from a barrier
constexpr uint32_t kMaxCount = (1u << 20) - 1;

struct Fields {
  uint64_t phase : 1;
  uint64_t pending : 20;
  uint64_t count : 20;
  uint64_t mark : 23;
};
static_assert(sizeof(Fields) == sizeof(uint64_t));

Fields load(const uint64_t* barrier, const char* operation) {
  check_shared(barrier, sizeof(uint64_t), operation);
  Fields fields;
  std::memcpy(&fields, barrier, sizeof fields);
  if (fields.mark != kMark) {
    fail(std::string(operation) + ": this memory holds no mbarrier; mbarrier_init and a barrier " +
         "of the block come first");
  }
  return fields;
}

void store(uint64_t* barrier, Fields fields) { std::memcpy(barrier, &fields, sizeof fields); }

bool waits_for(const Thread& thread, const uint64_t* barrier) {
  return thread.wait == Wait::mbarrier && thread.waits_on == barrier;
}

// Wakes the threads that wait for the phase that has just ended.
void wake_waiting(const uint64_t* barrier, uint32_t ended_phase) {
  for (int i = 0; i < block.thread_count; ++i) {
    Thread& thread = block.threads[i];
    if (!waits_for(thread, barrier) || thread.parity != ended_phase) continue;
    thread.wait = Wait::nothing;
    wake(thread.warp, 1u << thread.lane);
  }
}

}  // namespace

void mbarrier_initialise(uint64_t* barrier, uint32_t count) {
  check_shared(barrier, sizeof(uint64_t), "mbarrier_init");
  if (count == 0 || count > kMaxCount) {
    fail("mbarrier_init: a count of " + std::to_string(count) + " is not in 1 .. 2^20 - 1");
  }
  store(barrier, {0, count, count, kMark});
}

void mbarrier_arrive(uint64_t* barrier) {
  Fields fields = load(barrier, "mbarrier_arrive");
  if (--fields.pending == 0) {
    wake_waiting(barrier, fields.phase);
    fields.phase ^= 1;
    fields.pending = fields.count;
  }
  store(barrier, fields);
}

// A failed test lets the others run: kernels test in a loop.
bool mbarrier_test(uint64_t* barrier, uint32_t parity) {
  if (load(barrier, "mbarrier_test").phase != (parity & 1)) return true;
  yield();
  return load(barrier, "mbarrier_test").phase != (parity & 1);
}

void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  if (load(barrier, "mbarrier_wait").phase != (parity & 1)) return;
  Thread& self = *block.current;
  self.wait = Wait::mbarrier;
  self.waits_at = "mbarrier_wait";
  self.waits_on = barrier;
  self.parity = parity & 1;
  suspend();
}

std::string describe_mbarrier(const void* address, uint32_t parity) {
  Fields fields;
  std::memcpy(&fields, address, sizeof fields);
  return describe_shared(address) + " for phase parity " + std::to_string(parity) + " (" +
         std::to_string(fields.count - fields.pending) + " of " + std::to_string(fields.count) +
         " arrivals in the phase of parity " + std::to_string(fields.phase) + ")";
}

}  // namespace pymodel::simt::emulator
