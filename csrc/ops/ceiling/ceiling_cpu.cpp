// CPU ceilings: loops that keep the arithmetic units, or the memory, as busy as can be.
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/tile_unit.h"
#include "ops/ceiling/ceiling.h"

namespace pymodel::cpu::PYMODEL_ISA {
namespace {

// A multiply-add takes four to five cycles and two start in each: ten sums hide that, and twelve
// with the operands still fit into the sixteen registers of the smaller instruction sets.
constexpr int kSums = 12;

struct FloatProduct {
  static constexpr int kFlop = 2 * kLanes;
  PYMODEL_INLINE Vec add_to(Vec sum) { return fma(sum, Vec{} + 0.75f, Vec{} + 0.5f); }
};

#ifdef PYMODEL_ISA_avx512_bf16
struct BFloat16Product {
  static constexpr int kFlop = 4 * kLanes;
  PYMODEL_INLINE Vec add_to(Vec sum) {
    const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f803f80));
    return _mm512_dpbf16_ps(sum, ones, ones);
  }
};
#else
using BFloat16Product = FloatProduct;  // widened first
#endif

template <typename Product>
static void run_products(const CeilingProducts& args) {
  double flop = 0.0;
#pragma omp parallel reduction(+ : flop)
  {
    Vec sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Vec{} + static_cast<float>(i);
    for (int64_t step = 0; step < args.steps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) sums[i] = Product::add_to(sums[i]);
    }
    Vec total = sums[0];
    for (int i = 1; i < kSums; ++i) total += sums[i];
    // Never negative, which the compiler cannot know: so it has to compute.
    flop += sum(total) < 0.0f ? 0.0 : double{Product::kFlop * kSums} * args.steps;
  }
  *args.flop = flop;
}

#ifdef PYMODEL_ISA_avx512_bf16
// Four sums of the matrix unit, whose results are ready after the three others' products.
static void run_tiles(const CeilingProducts& args) {
  constexpr int kTiles = 4;
  constexpr double kFlop = 2.0 * kTiles * kTileRows * kTileRows * kTileDepth;
  double flop = 0.0;
#pragma omp parallel reduction(+ : flop)
  {
    alignas(64) uint16_t operand[kTileRows * kTileDepth];
    for (int i = 0; i < kTileRows * kTileDepth; ++i) operand[i] = uint16_t(0x3f00 + i % 128);
    TileUnit unit;
    tile_load<4>(operand, kTileRowBytes);
    tile_load<5>(operand, kTileRowBytes);
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
    for (int64_t step = 0; step < args.steps; ++step) {
      tile_multiply<0, 4, 5>();
      tile_multiply<1, 4, 5>();
      tile_multiply<2, 4, 5>();
      tile_multiply<3, 4, 5>();
    }
    flop += kFlop * args.steps;
  }
  *args.flop = flop;
}
#endif

// Calls body(first element, elements) with the calling thread's share.
template <typename Body>
PYMODEL_INLINE void share_of_thread(int64_t count, const Body& body) {
  const int64_t share = (count / omp_get_num_threads() + kLanes) / kLanes * kLanes;
  const int64_t begin = share * omp_get_thread_num();
  if (begin < count) body(begin, begin + share < count ? share : count - begin);
}

}  // namespace

void ceiling_products(const CeilingProducts& args) {
#ifdef PYMODEL_ISA_avx512_bf16
  if (args.dtype == DType::bfloat16 && tile_unit_on()) return run_tiles(args);
#endif
  if (args.dtype == DType::bfloat16) return run_products<BFloat16Product>(args);
  run_products<FloatProduct>(args);
}

// memcpy writes large shares past the caches, which spares reading the target first.
void ceiling_copy(const CeilingCopy& args) {
#pragma omp parallel
  share_of_thread(args.count, [&](int64_t begin, int64_t count) {
    memcpy(args.target + begin, args.source + begin, count * sizeof(float));
  });
}

// Four streams a thread, fetched ahead: one stream waits for memory more than it reads.
void ceiling_read(const CeilingRead& args) {
  constexpr int kStreams = 4;
  constexpr int64_t kAhead = 1024;
  float total = 0.0f;
#pragma omp parallel reduction(+ : total)
  share_of_thread(args.count, [&](int64_t begin, int64_t count) {
    const float* source = args.source + begin;
    const int64_t stream = count / (kStreams * kLanes) * kLanes;
    Vec sums[kStreams] = {};
    for (int64_t i = 0; i < stream; i += kLanes) {
      for (int s = 0; s < kStreams; ++s) {
        __builtin_prefetch(source + s * stream + i + kAhead);
        sums[s] += load(source + s * stream + i);
      }
    }
    for (int64_t i = kStreams * stream; i < count; ++i) total += source[i];
    total += sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  });
  *args.total = total;
}

}  // namespace pymodel::cpu::PYMODEL_ISA
