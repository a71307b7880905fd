// C++ exceptions that the bindings turn into Python ones.
#pragma once

#include <stdexcept>
#include <string>

namespace pymodel {

// A device that is missing, or tensors that lie on different ones.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A dtype that an operation does not take; a TypeError in Python.
struct DTypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A shape, stride or value that does not fit; a ValueError in Python.
struct ShapeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Memory that could not be had; a MemoryError in Python.
struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace pymodel
