#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/errors.h"

namespace pymodel {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// Unused memory beyond what is in use plus this is returned before more is asked for.
constexpr size_t kCacheSlack = size_t{256} << 20;

// Sizes are rounded up to eight steps per power of two: blocks then fit later requests of nearly
// the same size, at a waste of at most an eighth.
size_t round_size(size_t bytes) {
  if (bytes <= 8 * kAlignment)
    return (std::max(bytes, size_t{1}) + kAlignment - 1) & ~(kAlignment - 1);
  size_t step = size_t{1} << (60 - __builtin_clzll(bytes - 1));
  return (bytes + step - 1) & ~(step - 1);
}

class Cache {
 public:
  void* take(size_t bytes) {
    const size_t size = round_size(bytes);
    std::lock_guard<std::mutex> lock(mutex_);
    void* pointer = nullptr;
    auto bin = free_.find(size);
    if (bin != free_.end() && !bin->second.empty()) {
      pointer = bin->second.back();
      bin->second.pop_back();
      stats_.cached -= size;
    } else {
      if (stats_.cached > stats_.in_use + kCacheSlack) drop_all();
      pointer = system_allocate(size);
      if (pointer == nullptr) {
        drop_all();
        pointer = system_allocate(size);
      }
      if (pointer == nullptr) throw_out_of_memory(bytes);
    }
    stats_.in_use += size;
    stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
    return pointer;
  }

  void give(void* pointer, size_t bytes) noexcept {
    const size_t size = round_size(bytes);
    std::lock_guard<std::mutex> lock(mutex_);
    stats_.in_use -= size;
    try {
      free_[size].push_back(pointer);
      stats_.cached += size;
    } catch (...) {  // no room to remember the block: it goes back at once
      system_release(pointer, size);
    }
  }

  void clear() noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_all();
  }

  AllocatorStats stats() {
    std::lock_guard<std::mutex> lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    std::lock_guard<std::mutex> lock(mutex_);
    stats_.peak_in_use = stats_.in_use;
  }

 private:
  void* system_allocate(size_t size) {
    ++stats_.system_allocations;
    if (size < kHugePage) return std::aligned_alloc(kAlignment, size);
    void* pointer = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pointer == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
    madvise(pointer, size, MADV_HUGEPAGE);  // fewer page faults and TLB misses; a hint only
#endif
    return pointer;
  }

  static void system_release(void* pointer, size_t size) noexcept {
    if (size < kHugePage) {
      std::free(pointer);
    } else {
      munmap(pointer, size);
    }
  }

  void drop_all() noexcept {
    for (auto& bin : free_) {
      for (void* pointer : bin.second) system_release(pointer, bin.first);
      bin.second.clear();
    }
    stats_.cached = 0;
  }

  [[noreturn]] void throw_out_of_memory(size_t bytes) {
    throw OutOfMemory("out of memory: " + std::to_string(bytes) + " bytes were asked for with " +
                      std::to_string(stats_.in_use) +
                      " in use by tensors; use a smaller batch or sequence");
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  AllocatorStats stats_;
};

// Never destroyed: tensors may be released after static destructors have run.
Cache& cache() {
  static Cache* instance = new Cache;
  return *instance;
}

}  // namespace

void* allocate(size_t bytes) { return cache().take(bytes); }
void release(void* pointer, size_t bytes) noexcept { cache().give(pointer, bytes); }
void empty_cache() noexcept { cache().clear(); }
AllocatorStats allocator_stats() { return cache().stats(); }
void reset_peak_memory() { cache().reset_peak(); }

}  // namespace pymodel
