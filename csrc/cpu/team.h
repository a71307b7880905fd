// Teams: threads that compute one thing in phases, with one fork and join for all of them.
#pragma once

#include "cpu/parallel.h"

namespace pymodel::cpu::PYMODEL_ISA {

// One member's place among the threads that work together. Inside another parallel loop a team has
// one member.
struct Team {
  int64_t rank, size;

  // This member's share of [0, tasks): a run of neighbours, so that they may share what they load.
  int64_t begin(int64_t tasks) const { return tasks * rank / size; }
  int64_t end(int64_t tasks) const { return tasks * (rank + 1) / size; }

  void barrier() const {
    if (size == 1) return;
#pragma omp barrier
  }
};

// Calls body(team) on every member of a team; `cost` is the elementary operations of all.
template <typename Body>
PYMODEL_INLINE void run_team(int64_t cost, const Body& body) {
  if (cost < kSerialCost || omp_in_parallel()) return body(Team{0, 1});
#pragma omp parallel
  body(Team{omp_get_thread_num(), omp_get_num_threads()});
}

}  // namespace pymodel::cpu::PYMODEL_ISA
