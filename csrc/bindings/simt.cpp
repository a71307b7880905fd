// Controls of the emulator, for tests. Only in builds that have it (PYMODEL_SIMT).
#include "bindings/bindings.h"
#include "simt/runtime.h"
#include "simt/schedule.h"

namespace pymodel {
namespace {

namespace emulator = simt::emulator;

constexpr emulator::Order kOrders[] = {emulator::Order::round_robin, emulator::Order::reverse,
                                       emulator::Order::random, emulator::Order::run_ahead,
                                       emulator::Order::lag_behind};

void set_schedule(const std::string& order, uint64_t seed) {
  if (order == "default") return emulator::set_default_schedule();
  std::string known = "default";
  for (const emulator::Order candidate : kOrders) {
    if (order == emulator::order_name(candidate)) return emulator::set_schedule(candidate, seed);
    known += std::string(", ") + emulator::order_name(candidate);
  }
  throw py::value_error("simt_set_schedule: '" + order + "' is not one of " + known);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("simt_set_schedule", &set_schedule);
  m.def("simt_set_memory_limit", &emulator::set_memory_limit);
}

}  // namespace pymodel
