// simt_tests --list
// simt_tests CASE ORDER SEED COUNT    runs a case COUNT times, from SEED upwards; a line each
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "harness.h"
#include "simt/schedule.h"

namespace pymodel::simt::tests {

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

static bool parse_order(const char* name, emulator::Order* order) {
  for (const emulator::Order candidate :
       {emulator::Order::round_robin, emulator::Order::reverse, emulator::Order::random,
        emulator::Order::run_ahead, emulator::Order::lag_behind}) {
    *order = candidate;
    if (std::strcmp(name, emulator::order_name(candidate)) == 0) return true;
  }
  return false;
}

static std::string on_one_line(const std::string& text) {
  std::string line;
  for (const char c : text) line += c == '\n' ? std::string(" |") : std::string(1, c);
  return line;
}

static int main_of(int count, char** arguments) {
  if (count == 2 && std::strcmp(arguments[1], "--list") == 0) {
    for (const Case& each : cases()) std::puts(each.name);
    return 0;
  }
  emulator::Order order;
  if (count != 5 || !parse_order(arguments[2], &order)) return 2;
  for (const Case& each : cases()) {
    if (std::strcmp(each.name, arguments[1]) != 0) continue;
    const long first = std::atol(arguments[3]), runs = std::atol(arguments[4]);
    for (long seed = first; seed < first + runs; ++seed) {
      emulator::set_schedule(order, static_cast<uint64_t>(seed));
      std::puts(on_one_line(each.run()).c_str());
    }
    return 0;
  }
  return 2;
}

}  // namespace pymodel::simt::tests

int main(int count, char** arguments) { return pymodel::simt::tests::main_of(count, arguments); }
