#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <vector>

#include "simt/fibre.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace pymodel::simt::emulator {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 256 * 1024;  // red zones around every variable
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

// Stacks that end at the same offset in a page would all compete for the same sets of the cache:
// each starts some lines lower than the one before, over a page's worth of lines.
constexpr size_t kColourStep = 320, kColours = 12;

std::vector<Stack> pool;
size_t made = 0;

Stack make_stack() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* mapped = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED || mprotect(mapped, page, PROT_NONE) != 0) throw std::bad_alloc();
  const size_t colour = made++ % kColours * kColourStep;
  return {static_cast<char*>(mapped) + page, kStackBytes - colour};
}

}  // namespace

Stack take_stack() {
  if (pool.empty()) return make_stack();
  const Stack stack = pool.back();
  pool.pop_back();
  return stack;
}

void return_stack(Stack stack) {
#if defined(__SANITIZE_ADDRESS__)
  // A fibre that was abandoned leaves the red zones of its variables behind.
  __asan_unpoison_memory_region(stack.bottom, stack.bytes);
#endif
  pool.push_back(stack);
}

}  // namespace pymodel::simt::emulator
