// Copies of arrays between devices, and from pageable to pinned host memory.
#pragma once

#include "bindings/bindings.h"

namespace pymodel {

// Writes the elements of `source`, converted and broadcast, into `out` on another device. Work that
// is already in the current streams of both is waited for by the copy, not by the host. The host
// waits for the result only where it could otherwise see it unfinished: when either side is host
// memory, unless that is pinned and `non_blocking` is set.
void copy_between_devices(const Array& source, const Array& out, bool non_blocking);

// Copies plain bytes within a device where that is all there is to do, which needs no kernel, and
// returns whether it did. False on the CPU, whose kernel does that by itself.
bool copied_as_bytes(const Array& source, const Array& out);

// A contiguous array of the same elements on `device`; pinned when it is the host's and
// `non_blocking` is set.
Array moved(const Array& source, Device device, bool non_blocking);

// A contiguous copy in pinned memory. Throws DeviceError where there is no device to pin it for.
Array pinned(const Array& source);

// Waits for a device's current stream, without the GIL, and raises what its kernels reported.
void synchronize_stream(Device device);

}  // namespace pymodel
