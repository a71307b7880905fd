#include "simt/static_shared.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "simt/cuda_keywords.h"
#include "simt/module_file.h"
#include "simt/poison.h"

namespace pymodel::simt::emulator {
namespace {

// One section for each variable of a template, one for all others.
const std::vector<Range>& ranges() {
  static const std::vector<Range> sorted = [] {
    std::vector<Range> found = sections(PYMODEL_SIMT_SHARED_SECTION);
    std::sort(found.begin(), found.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    return found;
  }();
  return sorted;
}

#if defined(__SANITIZE_ADDRESS__)

// Over the red zones between the variables too, which memset may not touch.
__attribute__((no_sanitize_address)) void fill(const Range& range) {
  auto* bytes = static_cast<volatile unsigned char*>(range.begin);
  for (size_t i = 0; i < range.bytes; ++i) bytes[i] = kPoison;
}

#else

void fill(const Range& range) { std::memset(range.begin, kPoison, range.bytes); }

#endif

}  // namespace

void poison_static_shared() {
  for (const Range& range : ranges()) fill(range);
}

bool in_static_shared(const void* address, size_t bytes) {
  if (ranges().empty()) return true;
  const auto after =
      std::upper_bound(ranges().begin(), ranges().end(), address,
                       [](const void* at, const Range& range) { return at < range.begin; });
  if (after == ranges().begin()) return false;
  const Range& range = *(after - 1);
  const auto offset =
      reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(range.begin);
  return offset + bytes <= range.bytes;
}

}  // namespace pymodel::simt::emulator
