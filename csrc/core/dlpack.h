// The binary interface of DLPack, through which array libraries hand memory to each other.
//
// Declared from the specification, https://dmlc.github.io/dlpack/latest/c_api.html and, for the
// capsule names and who deletes what, https://dmlc.github.io/dlpack/latest/python_spec.html.
// Other libraries' compilers fixed this layout: no field may move.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pymodel::dlpack {

enum DeviceType : int32_t {
  kCpu = 1,
  kCuda = 2,
  kCudaHost = 3,  // pinned: ordinary memory to a CPU
  kOpenCl = 4,
  kVulkan = 7,
  kMetal = 8,
  kRocm = 10,
  kRocmHost = 11,
  kExtension = 12,  // known to the library that made it alone; ours is the emulator
  kCudaManaged = 13,
  kOneApi = 14,
};

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4, kComplex = 5, kBool = 6 };

struct Device {
  int32_t type;
  int32_t index;
};

struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;  // elements of a packed vector type; 1 for scalars
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;      // in elements; null stands for dense row-major order
  uint64_t byte_offset;  // of the first element from `data`
};

// The message before version 1.0.
struct Managed {
  static constexpr const char* kName = "dltensor";
  static constexpr const char* kUsedName = "used_dltensor";

  Tensor tensor;
  void* owner;
  void (*deleter)(Managed*);
};

struct Version {
  uint32_t major;  // readers of another major version may use nothing but the deleter
  uint32_t minor;
};

struct ManagedVersioned {
  static constexpr const char* kName = "dltensor_versioned";
  static constexpr const char* kUsedName = "used_dltensor_versioned";
  static constexpr uint64_t kReadOnly = 1;
  static constexpr uint64_t kIsCopied = 2;

  Version version;
  void* owner;
  void (*deleter)(ManagedVersioned*);
  uint64_t flags;
  Tensor tensor;
};

constexpr Version kVersion = {1, 0};

static_assert(sizeof(Tensor) == 48 && sizeof(Managed) == 64 && sizeof(ManagedVersioned) == 80,
              "DLPack's layout on 64-bit machines");
static_assert(offsetof(ManagedVersioned, tensor) == 32, "DLPack's layout on 64-bit machines");

}  // namespace pymodel::dlpack
