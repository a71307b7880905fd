// The emulator's stand-in for CUDA's header of this name. All names live in pymodel::simt, so that
// the real runtime may be linked into the same module.
#pragma once

#include "simt/atomics.h"
#include "simt/cuda_keywords.h"
#include "simt/intrinsics.h"
#include "simt/launch.h"
#include "simt/runtime.h"
#include "simt/vector_types.h"
#include "simt/warp.h"

using namespace pymodel::simt;
