// Barriers of a block: __syncthreads, named barriers and mbarriers.
//
// As on the hardware, threads that have ended no longer count for __syncthreads: it waits for all
// that still live. Named barriers and mbarriers count arrivals only.
#pragma once

#include <cstdint>
#include <string>

namespace pymodel::simt::emulator {

enum class Vote { none, count, all, any };  // what __syncthreads tells of the predicates

// Barrier 0, for all threads of the block. Returns what `vote` asks for.
int barrier_all(Vote vote, bool predicate);

// Barriers 0 to 15, for `threads` threads, a multiple of 32.
void barrier_sync(int id, int threads);
void barrier_arrive(int id, int threads);

void mbarrier_initialise(uint64_t* barrier, uint32_t count);
void mbarrier_arrive(uint64_t* barrier);
bool mbarrier_test(uint64_t* barrier, uint32_t parity);
void mbarrier_wait(uint64_t* barrier, uint32_t parity);

// For block.cpp: forgets all barriers; a thread has ended, and others may have waited for it only.
void reset_barriers();
void barrier_lost_thread();
// For reports: "barrier 2 (64 of 96 threads have come)".
std::string describe_barrier(const void* barrier);
std::string describe_mbarrier(const void* barrier, uint32_t parity);

}  // namespace pymodel::simt::emulator
