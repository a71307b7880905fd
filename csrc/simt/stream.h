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
  bool ended = false;
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

// Whether the handle means the null stream: null, or one of CUDA's two spellings of it.
bool is_default(cudaStream_t stream);
bool exists(cudaStream_t stream);

// The capture of `stream`, or null. The default stream never captures.
Capture* capture_of(cudaStream_t stream);
// Frees all streams from a capture that has ended.
void leave_capture(const Capture& capture);

// Runs `work` at once, or records it when the stream captures.
cudaError_t submit(cudaStream_t stream, Work work);

// For calls that break the rules of a capture under way: they return an error and spoil it.
cudaError_t forbid_during_capture();         // unsafe calls, unless this thread relaxed its mode
cudaError_t forbid_default_stream();         // which waits for all blocking streams
cudaError_t forbid_waiting();                // for the whole device
cudaError_t forbid_capturing(cudaStream_t);  // waiting for one stream

}  // namespace pymodel::simt::emulator
