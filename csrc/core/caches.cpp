#include "core/caches.h"

#include <unistd.h>

#include <cstdlib>

namespace pymodel {

static int64_t detect() {
  constexpr int64_t kUsual = int64_t{1} << 20;
  constexpr int64_t kLeast = int64_t{1} << 17, kMost = int64_t{1} << 24;
  int64_t bytes = 0;
  if (const char* forced = std::getenv("PYMODEL_CPU_L2")) {
    bytes = std::atoll(forced);
#ifdef _SC_LEVEL2_CACHE_SIZE
  } else {
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);  // 0 or -1 where it is not known
#endif
  }
  return bytes < kLeast || bytes > kMost ? kUsual : bytes;
}

int64_t second_level_cache() {
  static const int64_t bytes = detect();
  return bytes;
}

}  // namespace pymodel
