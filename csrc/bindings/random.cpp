#include "ops/random/random.h"

#include "bindings/bindings.h"
#include "core/philox.h"

namespace pymodel {
namespace {

RandomFill fill_of(const Array& out, float location, float scale, uint64_t seed, uint64_t offset) {
  const Checker check("random");
  check.ndim("out", out, 1);
  check.floating("out", out);
  check.contiguous("out", out);
  RandomFill args;
  args.out = out.view();
  args.location = location;
  args.scale = scale;
  args.seed = seed;
  args.offset = offset;
  return args;
}

void uniform(const Array& out, float low, float width, uint64_t seed, uint64_t offset) {
  const RandomFill args = fill_of(out, low, width, seed, offset);
  PYMODEL_RUN(random_uniform, out.device(), args);
}

void normal(const Array& out, float mean, float deviation, uint64_t seed, uint64_t offset) {
  const RandomFill args = fill_of(out, mean, deviation, seed, offset);
  PYMODEL_RUN(random_normal, out.device(), args);
}

// The generator itself, which tests hold against its published answers.
py::tuple block(uint64_t seed, uint64_t counter_low, uint64_t counter_high) {
  const PhiloxBlock words = philox(seed, counter_low, counter_high);
  return py::make_tuple(words.word[0], words.word[1], words.word[2], words.word[3]);
}

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("random_uniform", &uniform);
  m.def("random_normal", &normal);
  m.def("philox", &block);
}

}  // namespace pymodel
