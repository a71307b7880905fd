// From a dtype known at run time to a type known at compile time.
#pragma once

#include "core/dtype.h"
#include "cpu/isa.h"

namespace pymodel::cpu::PYMODEL_ISA {

// Calls body with a value of the storage type that a floating `dtype` names; body takes `auto` and
// uses only its type.
template <typename Body>
PYMODEL_INLINE void dispatch_floating(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float16:
      return body(float16{});
    case DType::bfloat16:
      return body(bfloat16{});
    default:
      return body(float{});
  }
}

}  // namespace pymodel::cpu::PYMODEL_ISA
