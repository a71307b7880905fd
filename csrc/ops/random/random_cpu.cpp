// CPU random fills, a group of Philox blocks at a time.
#include "cpu/dispatch.h"
#include "cpu/math.h"
#include "cpu/parallel.h"
#include "cpu/philox_lanes.h"
#include "ops/random/random.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// Multiples of 2^-24 in [0, 1): all that float32 holds at an even spacing.
PYMODEL_INLINE Vec unit_interval(WordVec words) {
  return __builtin_convertvector(reinterpret_cast<IntVec>(words >> 8), Vec) * 0x1p-24f;
}

// (word + 1/2) * 2^-32 in (0, 1], in two halves because only AVX-512 converts unsigned words.
PYMODEL_INLINE Vec positive_unit_interval(WordVec words) {
  const Vec high = __builtin_convertvector(reinterpret_cast<IntVec>(words >> 16), Vec);
  const Vec low = __builtin_convertvector(reinterpret_cast<IntVec>(words & 0xffffu), Vec);
  return high * 0x1p-16f + (low + 0.5f) * 0x1p-32f;
}

// cos and sin of 2 pi * turns for turns in [0, 1), absolute error at most 1e-7. The polynomials
// are our least-squares fits at Chebyshev nodes, an eighth of a turn to either side of a quarter.
PYMODEL_INLINE void circle(Vec turns, Vec* cosine, Vec* sine) {
  constexpr float kSine[] = {1.5707964f, -0.6459641f, 0.07969258f, -0.0046812664f, 0.00015820652f};
  constexpr float kCosine[] = {1.0f, -1.2337005f, 0.2536692f, -0.02086007f, 0.0009036299f};
  const Vec quarters = turns * 4.0f;
  const Vec magic = broadcast(12582912.0f);  // adding 1.5 * 2^23 rounds to the nearest integer
  const Vec shifted = quarters + magic;
  const IntVec quarter = reinterpret_cast<IntVec>(shifted) - reinterpret_cast<IntVec>(magic);
  const Vec rest = quarters - (shifted - magic);  // in [-1/2, 1/2], exactly
  const Vec square = rest * rest;
  const Vec s = rest * polynomial(kSine, square), c = polynomial(kCosine, square);
  const IntVec odd = (quarter & 1) != 0;
  const Vec x = select(odd, s, c), y = select(odd, c, s);
  *cosine = select(((quarter + 1) & 2) != 0, -x, x);
  *sine = select((quarter & 2) != 0, -y, y);
}

// The draws of one group from its words, still with lane i of vector w for element 4 * i + w.
PYMODEL_INLINE void draw_uniform(const PhiloxLanes& words, Vec (&draws)[4]) {
  for (int w = 0; w < 4; ++w) draws[w] = unit_interval(words.word[w]);
}

PYMODEL_INLINE void draw_normal(const PhiloxLanes& words, Vec (&draws)[4]) {
  for (int w = 0; w < 4; w += 2) {
    const Vec radius = sqrt(log(positive_unit_interval(words.word[w])) * -2.0f);
    Vec cosine, sine;
    circle(unit_interval(words.word[w + 1]), &cosine, &sine);
    draws[w] = radius * cosine;
    draws[w + 1] = radius * sine;
  }
}

template <typename T, typename Draw>
static void fill(const RandomFill& args, const Draw& draw) {
  T* out = data_as<T>(args.out);
  const int64_t count = args.out.shape[0];
  constexpr int64_t kChunk = 64 * kPhiloxGroup;
  parallel_chunks(count, kChunk, 8 * count, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kPhiloxGroup) {
      Vec draws[4];
      draw(philox_lanes(args.seed, args.offset, static_cast<uint64_t>(first)), draws);
      float ordered[kPhiloxGroup];
      interleave(draws, ordered);
      const int64_t length = end - first < kPhiloxGroup ? end - first : kPhiloxGroup;
      for_each_vector(length, [&](int64_t i, int64_t n) {
        store_lanes(out + first + i, load(ordered + i) * args.scale + args.location, n);
      });
    }
  });
}

template <typename Draw>
static void fill_any(const RandomFill& args, const Draw& draw) {
  dispatch_floating(args.out.dtype, [&](auto type) { fill<decltype(type)>(args, draw); });
}

}  // namespace

void random_uniform(const RandomFill& args) {
  fill_any(args, [](const PhiloxLanes& words, Vec(&draws)[4]) { draw_uniform(words, draws); });
}

void random_normal(const RandomFill& args) {
  fill_any(args, [](const PhiloxLanes& words, Vec(&draws)[4]) { draw_normal(words, draws); });
}

}  // namespace pymodel::cpu::PYMODEL_ISA
