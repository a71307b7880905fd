// Stream captures and the graphs that they record.
#include <algorithm>
#include <mutex>

#include "simt/errors.h"
#include "simt/runtime.h"
#include "simt/stream.h"

namespace pymodel::simt {
namespace emulator {
namespace {

std::mutex mutex;
std::vector<std::shared_ptr<Capture>> captures;  // under way
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

// Whether a capture minds unsafe calls of this thread.
bool minds_this_thread(const Capture& capture) {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return false;
  if (capture.mode == cudaStreamCaptureModeRelaxed) return false;
  const bool of_all =
      capture.mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
  return of_all || capture.thread == std::this_thread::get_id();
}

// Spoils the captures that `mind`; `error` when there is one.
template <typename Mind>
cudaError_t spoil_captures(Mind&& mind, cudaError_t error) {
  const std::lock_guard<std::mutex> lock(mutex);
  cudaError_t result = cudaSuccess;
  for (const auto& capture : captures) {
    if (!mind(*capture)) continue;
    capture->invalidated = true;
    result = error;
  }
  return result;
}

}  // namespace

cudaError_t forbid_during_capture() {
  return spoil_captures(minds_this_thread, cudaErrorStreamCaptureUnsupported);
}

cudaError_t forbid_default_stream() {
  return spoil_captures([](const Capture& capture) { return capture.origin->blocking; },
                        cudaErrorStreamCaptureImplicit);
}

cudaError_t forbid_waiting() {
  return spoil_captures([](const Capture&) { return true; }, cudaErrorStreamCaptureUnsupported);
}

cudaError_t forbid_capturing(cudaStream_t stream) {
  if (!exists(stream)) return cudaErrorInvalidResourceHandle;
  if (is_default(stream)) return forbid_default_stream();
  return spoil_captures([&](const Capture& capture) { return &capture == stream->capture.get(); },
                        cudaErrorStreamCaptureUnsupported);
}

}  // namespace emulator

using emulator::note;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (emulator::is_default(stream)) return note(cudaErrorStreamCaptureUnsupported);
  if (!emulator::exists(stream)) return note(cudaErrorInvalidResourceHandle);
  if (stream->capture) return note(cudaErrorIllegalState);
  stream->capture = std::make_shared<emulator::Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  emulator::captures.push_back(stream->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (emulator::capture_of(stream) == nullptr) return note(cudaErrorIllegalState);
  const std::shared_ptr<emulator::Capture> capture = stream->capture;
  if (capture->origin != stream) return note(cudaErrorInvalidValue);
  emulator::leave_capture(*capture);
  {
    const std::lock_guard<std::mutex> lock(emulator::mutex);
    auto& all = emulator::captures;
    all.erase(std::remove(all.begin(), all.end(), capture), all.end());
    capture->ended = true;
  }
  if (capture->invalidated) return note(cudaErrorStreamCaptureInvalidated);
  *graph = new emulator::Graph(std::move(capture->graph));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (!emulator::exists(stream)) return note(cudaErrorInvalidResourceHandle);
  const emulator::Capture* capture = emulator::capture_of(stream);
  *status = capture == nullptr     ? cudaStreamCaptureStatusNone
            : capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, emulator::thread_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  if (graph == nullptr) return note(cudaErrorInvalidValue);
  *executable = new emulator::GraphExecutable{*graph};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return note(cudaErrorInvalidValue);
  return note(emulator::submit(stream, [graph = executable->graph] {
    for (const emulator::Work& work : graph.work) {
      const cudaError_t error = work();
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

}  // namespace pymodel::simt
