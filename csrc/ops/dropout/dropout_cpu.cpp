// CPU dropout, a group of Philox blocks at a time.
#include "cpu/dispatch.h"
#include "cpu/math.h"
#include "cpu/parallel.h"
#include "cpu/philox_lanes.h"
#include "ops/dropout/dropout.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

template <typename T>
static void run(const Dropout& args) {
  const T* x = data_as<T>(args.x);
  const T* residual = data_as<T>(args.residual);
  T* y = data_as<T>(args.y);
  const int64_t count = args.x.shape[0];
  const double keep = 1.0 - args.p;
  const uint32_t threshold = keep_threshold(keep);
  const float scale = keep > 0.0 ? static_cast<float>(1.0 / keep) : 0.0f;
  constexpr int64_t kChunk = 64 * kPhiloxGroup;
  parallel_chunks(count, kChunk, 4 * count, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kPhiloxGroup) {
      const PhiloxLanes lanes = philox_lanes(args.seed, args.offset, static_cast<uint64_t>(first));
      uint32_t words[kPhiloxGroup];
      interleave(lanes.word, words);
      const int64_t length = end - first < kPhiloxGroup ? end - first : kPhiloxGroup;
      for_each_vector(length, [&](int64_t i, int64_t n) {
        WordVec drawn;
        memcpy(&drawn, words + i, sizeof drawn);
        // Selected, not multiplied by zero: a dropped infinity is zero too.
        Vec value = select(drawn < threshold, load_lanes(x + first + i, n) * scale, zero());
        if (residual != nullptr) value += load_lanes(residual + first + i, n);
        store_lanes(y + first + i, value, n);
      });
    }
  });
}

}  // namespace

void dropout(const Dropout& args) {
  dispatch_floating(args.x.dtype, [&](auto type) { run<decltype(type)>(args); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
