// Streams and what a capture records.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "simt/runtime_types.h"

namespace pymodel::simt::emulator {

using Work = std::function<cudaError_t()>;

struct Graph {
  std::vector<Work> work;
  std::vector<std::shared_ptr<void>> memory;  // allocated by the graph's own nodes
};

struct GraphExecutable {
  Graph graph;
};

struct Capture {
  cudaStream_t origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;  // that began it
  bool invalidated = false;
  Graph graph;
};

struct Stream {
  bool blocking;                     // ordered with the default stream
  std::shared_ptr<Capture> capture;  // while this stream records
};

struct Event {
  std::chrono::steady_clock::time_point time{};
  bool recorded = false;
  std::shared_ptr<Capture> capture;  // when it was recorded inside one
};

// The capture of `stream`, or null. The default stream never captures.
Capture* capture_of(cudaStream_t stream);

// Runs `work` at once, or records it when the stream captures.
cudaError_t submit(cudaStream_t stream, Work work);

// For calls that a capture forbids, unless this thread has relaxed its mode. Breaking the rule
// spoils the capture, as it does on a GPU.
cudaError_t forbid_during_capture();
// For calls that wait for one stream.
cudaError_t forbid_capturing(cudaStream_t stream);

}  // namespace pymodel::simt::emulator
