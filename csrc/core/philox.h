// Philox4x32-10, the counter-based generator behind every random number of the library.
//
// The number at (seed, counter) is a pure function, so any thread of any device can draw the
// number that belongs to a logical element: results do not depend on tiling or thread counts.
// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace pymodel {

constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u, kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;

struct PhiloxBlock {
  uint32_t word[4];
};

// Four 32-bit words for a 128-bit counter (two halves) under a 64-bit seed.
static inline __attribute__((always_inline)) PYMODEL_HOST_DEVICE PhiloxBlock
philox(uint64_t seed, uint64_t counter_low, uint64_t counter_high) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  PhiloxBlock c = {{static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
                    static_cast<uint32_t>(counter_high),
                    static_cast<uint32_t>(counter_high >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * c.word[0];
    const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * c.word[2];
    c = {{static_cast<uint32_t>(product1 >> 32) ^ c.word[1] ^ key0, static_cast<uint32_t>(product1),
          static_cast<uint32_t>(product0 >> 32) ^ c.word[3] ^ key1,
          static_cast<uint32_t>(product0)}};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return c;
}

// The word of logical element `index`: four neighbours share a block. `offset` numbers the call.
static inline __attribute__((always_inline)) PYMODEL_HOST_DEVICE uint32_t
philox_word(uint64_t seed, uint64_t offset, uint64_t index) {
  return philox(seed, index >> 2, offset).word[index & 3];
}

// Dropout keeps an element when its word is below this: round(keep * 2^32), at most 2^32 - 1, so
// the probability is right to 2^-32 instead of the 2^-8 of a byte-wide threshold.
static inline uint32_t keep_threshold(double keep_probability) {
  const double scaled = keep_probability * 4294967296.0 + 0.5;
  return scaled >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(scaled);
}

}  // namespace pymodel
