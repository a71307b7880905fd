// Twin of csrc/cuda/ptx.cuh: the same functions on top of the emulator.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "simt/barrier.h"
#include "simt/copy_async.h"
#include "simt/matrix.h"
#include "simt/shared_memory.h"

namespace pymodel::simt::ptx {

// ---------------------------------------------------------------------------------------------
// Shared memory

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(emulator::dynamic_shared_memory());
}

// ---------------------------------------------------------------------------------------------
// Asynchronous copies

inline void cp_async_16(void* shared, const void* global, bool valid) {
  emulator::block.current->copies.issue(shared, global, 16, valid);
}
inline void cp_async_4(void* shared, const void* global, bool valid) {
  emulator::block.current->copies.issue(shared, global, 4, valid);
}
inline void cp_async_commit() { emulator::block.current->copies.commit(); }
template <int pending>
void cp_async_wait() {
  emulator::block.current->copies.wait(pending);
}

// ---------------------------------------------------------------------------------------------
// Matrix fragments

inline void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  emulator::load_matrices(4, false, shared_row, r);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  emulator::load_matrices(4, true, shared_row, r);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  emulator::load_matrices(2, false, shared_row, r);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  emulator::load_matrices(2, true, shared_row, r);
}
inline void stmatrix_x4(void* shared_row, const uint32_t (&r)[4]) {
  emulator::store_matrices(4, false, shared_row, r);
}

template <typename T>
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::multiply_16x8x16<T>(d, a, b);
}
inline void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::multiply_16x8x8_tf32(d, a, b);
}

// Ties away from zero; infinity and NaN stay themselves.
inline uint32_t to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}

// ---------------------------------------------------------------------------------------------
// Arithmetic

inline float exp2_approximate(float x) { return exp2f(x); }

// ---------------------------------------------------------------------------------------------
// Barriers

inline void named_barrier_sync(int id, int threads) { emulator::barrier_sync(id, threads); }
inline void named_barrier_arrive(int id, int threads) { emulator::barrier_arrive(id, threads); }
inline void mbarrier_init(uint64_t* barrier, uint32_t count) {
  emulator::mbarrier_initialise(barrier, count);
}
inline void mbarrier_arrive(uint64_t* barrier) { emulator::mbarrier_arrive(barrier); }
inline bool mbarrier_test(uint64_t* barrier, uint32_t parity) {
  return emulator::mbarrier_test(barrier, parity);
}
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  emulator::mbarrier_wait(barrier, parity);
}

}  // namespace pymodel::simt::ptx
