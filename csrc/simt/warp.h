// CUDA's warp-wide functions and barriers of a block, on top of collective.h and barrier.h.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "simt/barrier.h"
#include "simt/block.h"
#include "simt/collective.h"

namespace pymodel::simt {
namespace emulator {

enum class Shuffle { index, up, down, butterfly };

template <typename T>
struct ShuffleOperand {
  T value, result;
  int lane_or_delta;
  int width;
};

// The lane that `lane` reads, within its group of `width` lanes; its own where that lies outside.
template <Shuffle kind>
inline int shuffle_source(int lane, int by, int width) {
  const int first = lane & ~(width - 1), last = first + width - 1;
  switch (kind) {
    case Shuffle::index:
      return first + (by & (width - 1));
    case Shuffle::up:
      return lane - by < first ? lane : lane - by;
    case Shuffle::down:
      return lane + by > last ? lane : lane + by;
    case Shuffle::butterfly:
      return (lane ^ by) > last ? lane : lane ^ by;
  }
  return lane;
}

[[noreturn]] void fail_shuffle(const char* name, int lane, int source, uint32_t mask);

template <Shuffle kind>
constexpr const char* kShuffleName = kind == Shuffle::index  ? "__shfl_sync"
                                     : kind == Shuffle::up   ? "__shfl_up_sync"
                                     : kind == Shuffle::down ? "__shfl_down_sync"
                                                             : "__shfl_xor_sync";

template <Shuffle kind, typename T>
void combine_shuffle(void* const* operands, uint32_t mask) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    auto& own = *static_cast<ShuffleOperand<T>*>(operands[lane]);
    const int source = shuffle_source<kind>(lane, own.lane_or_delta, own.width);
    if (!(mask >> source & 1)) fail_shuffle(kShuffleName<kind>, lane, source, mask);
    own.result = static_cast<ShuffleOperand<T>*>(operands[source])->value;
  }
}

template <Shuffle kind, typename T>
constexpr Collective kShuffle = {kShuffleName<kind>, combine_shuffle<kind, T>};

template <Shuffle kind, typename T>
inline T shuffle(uint32_t mask, T value, int by, int width) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  ShuffleOperand<T> operand{value, value, by, width};
  exchange(kShuffle<kind, T>, mask, &operand);
  return operand.result;
}

template <typename T>
struct ReduceOperand {
  T value, result;
};

template <typename T, typename Operation>
void combine_reduce(void* const* operands, uint32_t mask) {
  const int first = __builtin_ctz(mask);
  T total = static_cast<ReduceOperand<T>*>(operands[first])->value;
  for (uint32_t rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    total = Operation::join(total,
                            static_cast<ReduceOperand<T>*>(operands[__builtin_ctz(rest)])->value);
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    static_cast<ReduceOperand<T>*>(operands[__builtin_ctz(rest)])->result = total;
  }
}

template <typename T, typename Operation>
constexpr Collective kReduce = {Operation::name, combine_reduce<T, Operation>};

template <typename Operation, typename T>
inline T reduce(uint32_t mask, T value) {
  ReduceOperand<T> operand{value, value};
  exchange(kReduce<T, Operation>, mask, &operand);
  return operand.result;
}

#define PYMODEL_SIMT_REDUCTION(Name, text, expression) \
  struct Name {                                        \
    static constexpr const char* name = text;          \
    template <typename T>                              \
    static T join(T a, T b) {                          \
      return expression;                               \
    }                                                  \
  };
PYMODEL_SIMT_REDUCTION(Add, "__reduce_add_sync", a + b)
PYMODEL_SIMT_REDUCTION(Min, "__reduce_min_sync", std::min(a, b))
PYMODEL_SIMT_REDUCTION(Max, "__reduce_max_sync", std::max(a, b))
PYMODEL_SIMT_REDUCTION(And, "__reduce_and_sync", a& b)
PYMODEL_SIMT_REDUCTION(Or, "__reduce_or_sync", a | b)
PYMODEL_SIMT_REDUCTION(Xor, "__reduce_xor_sync", a ^ b)
PYMODEL_SIMT_REDUCTION(Ballot, "__ballot_sync", a | b)
PYMODEL_SIMT_REDUCTION(All, "__all_sync", a& b)
PYMODEL_SIMT_REDUCTION(Any, "__any_sync", a | b)
PYMODEL_SIMT_REDUCTION(Meet, "__syncwarp", a | b)
#undef PYMODEL_SIMT_REDUCTION

uint32_t match_any(uint32_t mask, uint64_t value);

}  // namespace emulator

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return emulator::shuffle<emulator::Shuffle::index>(mask, value, source, width);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle<emulator::Shuffle::up>(mask, value, static_cast<int>(delta), width);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle<emulator::Shuffle::down>(mask, value, static_cast<int>(delta), width);
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  return emulator::shuffle<emulator::Shuffle::butterfly>(mask, value, lane_mask, width);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint32_t bit = predicate ? 1u << emulator::block.current->lane : 0u;
  return emulator::reduce<emulator::Ballot>(mask, bit);
}
inline int __all_sync(unsigned mask, int predicate) {
  return emulator::reduce<emulator::All>(mask, static_cast<int>(predicate != 0));
}
inline int __any_sync(unsigned mask, int predicate) {
  return emulator::reduce<emulator::Any>(mask, static_cast<int>(predicate != 0));
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator::reduce<emulator::Meet>(mask, 0); }
inline unsigned __activemask() { return emulator::live_lanes(); }
template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return emulator::match_any(mask, bits);
}

template <typename T>
inline T __reduce_add_sync(unsigned mask, T value) {
  return emulator::reduce<emulator::Add>(mask, value);
}
template <typename T>
inline T __reduce_min_sync(unsigned mask, T value) {
  return emulator::reduce<emulator::Min>(mask, value);
}
template <typename T>
inline T __reduce_max_sync(unsigned mask, T value) {
  return emulator::reduce<emulator::Max>(mask, value);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
  return emulator::reduce<emulator::And>(mask, value);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return emulator::reduce<emulator::Or>(mask, value);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value) {
  return emulator::reduce<emulator::Xor>(mask, value);
}

inline void __syncthreads() { emulator::barrier_all(emulator::Vote::none, false); }
inline int __syncthreads_count(int predicate) {
  return emulator::barrier_all(emulator::Vote::count, predicate != 0);
}
inline int __syncthreads_and(int predicate) {
  return emulator::barrier_all(emulator::Vote::all, predicate != 0);
}
inline int __syncthreads_or(int predicate) {
  return emulator::barrier_all(emulator::Vote::any, predicate != 0);
}

// All threads of a block share one OS thread: what one has written, the others see.
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { emulator::yield(); }

}  // namespace pymodel::simt
