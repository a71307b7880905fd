// Reading the bits of one type as another.
#pragma once

#include <cstdint>
#include <cstring>

#include "simt/vector_types.h"

namespace pymodel::simt::emulator {

template <typename To, typename From>
inline To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace pymodel::simt::emulator
