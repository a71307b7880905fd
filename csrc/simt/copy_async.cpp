#include "simt/copy_async.h"

#include <cstring>

#include "simt/block.h"
#include "simt/poison.h"
#include "simt/shared_memory.h"

namespace pymodel::simt::emulator {

void AsyncCopies::issue(void* shared, const void* global, size_t bytes, bool valid) {
  check_shared(shared, bytes, "cp.async");
  if (reinterpret_cast<uintptr_t>(global) % bytes != 0) {
    fail("cp.async: the global address is not a multiple of " + std::to_string(bytes));
  }
  Copy& copy = copies_.emplace_back();
  copy.target = shared;
  copy.bytes = bytes;
  if (valid) {
    std::memcpy(copy.data, global, bytes);
  } else {
    std::memset(copy.data, 0, bytes);
  }
  std::memset(shared, kPoison, bytes);
}

void AsyncCopies::commit() { group_ends_.push_back(copies_.size()); }

void AsyncCopies::wait(size_t pending) {
  if (group_ends_.size() <= pending) return;
  const size_t groups = group_ends_.size() - pending, arriving = group_ends_[groups - 1];
  for (size_t i = 0; i < arriving; ++i) {
    std::memcpy(copies_[i].target, copies_[i].data, copies_[i].bytes);
  }
  copies_.erase(copies_.begin(), copies_.begin() + static_cast<ptrdiff_t>(arriving));
  group_ends_.erase(group_ends_.begin(), group_ends_.begin() + static_cast<ptrdiff_t>(groups));
  for (size_t& end : group_ends_) end -= arriving;
}

void AsyncCopies::clear() {
  copies_.clear();
  group_ends_.clear();
}

}  // namespace pymodel::simt::emulator
