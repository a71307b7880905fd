// Asynchronous copies from global to shared memory ("cp.async") of one thread.
//
// The hardware may move the bytes at any time between the copy and the matching wait, so the
// emulator takes the worst time for each end: the source is read at once, which misses what is
// written there later; the target is poisoned at once, which destroys what others still read
// there; and the bytes arrive only in the wait. A group that is never committed never arrives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pymodel::simt::emulator {

class AsyncCopies {
 public:
  // `bytes` is 4, 8 or 16, and both addresses are multiples of it; without `valid`, nothing is
  // read and zeros arrive.
  void issue(void* shared, const void* global, size_t bytes, bool valid);
  void commit();
  // Lets the bytes of all but the latest `pending` committed groups arrive.
  void wait(size_t pending);
  void clear();

 private:
  struct Copy {
    void* target;
    size_t bytes;
    unsigned char data[16];
  };
  std::vector<Copy> copies_;        // that have not arrived, oldest first
  std::vector<size_t> group_ends_;  // counts of copies up to the end of each committed group
};

}  // namespace pymodel::simt::emulator
