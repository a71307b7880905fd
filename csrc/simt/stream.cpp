#include "simt/stream.h"

#include <mutex>
#include <set>

#include "simt/errors.h"
#include "simt/runtime.h"

namespace pymodel::simt {
namespace emulator {
namespace {

std::mutex mutex;
std::set<Stream*> streams;
std::vector<std::weak_ptr<Capture>> captures;

// The null stream and CUDA's two spellings of the default ones.
bool is_default(cudaStream_t stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }

bool exists(cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  return is_default(stream) || streams.count(stream) > 0;
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

// Whether a capture minds unsafe calls of this thread.
bool minds_this_thread(const Capture& capture) {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return false;
  if (capture.mode == cudaStreamCaptureModeRelaxed) return false;
  const bool of_all =
      capture.mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
  return of_all || capture.thread == std::this_thread::get_id();
}

bool minds_default_stream(const Capture& capture) { return capture.origin->blocking; }
bool minds_everything(const Capture&) { return true; }

// Spoils the captures under way that `mind`; `error` when there is one.
cudaError_t spoil_captures(bool (*mind)(const Capture&), cudaError_t error) {
  const std::lock_guard<std::mutex> lock(mutex);
  cudaError_t result = cudaSuccess;
  for (const auto& weak : captures) {
    const auto capture = weak.lock();
    if (!capture || !mind(*capture)) continue;
    capture->invalidated = true;
    result = error;
  }
  return result;
}

}  // namespace

Capture* capture_of(cudaStream_t stream) {
  return is_default(stream) ? nullptr : stream->capture.get();
}

cudaError_t submit(cudaStream_t stream, Work work) {
  if (!exists(stream)) return cudaErrorInvalidResourceHandle;
  if (Capture* capture = capture_of(stream)) {
    if (capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    capture->graph.work.push_back(std::move(work));
    return cudaSuccess;
  }
  if (is_default(stream)) {
    const cudaError_t error = spoil_captures(minds_default_stream, cudaErrorStreamCaptureImplicit);
    if (error != cudaSuccess) return error;
  }
  return work();
}

cudaError_t forbid_during_capture() {
  return spoil_captures(minds_this_thread, cudaErrorStreamCaptureUnsupported);
}

cudaError_t forbid_capturing(cudaStream_t stream) {
  if (!exists(stream)) return cudaErrorInvalidResourceHandle;
  if (is_default(stream)) {
    return spoil_captures(minds_default_stream, cudaErrorStreamCaptureImplicit);
  }
  Capture* capture = capture_of(stream);
  if (capture == nullptr) return cudaSuccess;
  capture->invalidated = true;
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace emulator

using emulator::note;

// ---------------------------------------------------------------------------------------------
// Streams

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new emulator::Stream{(flags & cudaStreamNonBlocking) == 0, nullptr};
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  emulator::streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard<std::mutex> lock(emulator::mutex);
    if (emulator::streams.erase(stream) == 0) return note(cudaErrorInvalidResourceHandle);
  }
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return note(emulator::forbid_capturing(stream));
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return note(emulator::forbid_capturing(stream));
}
cudaError_t cudaDeviceSynchronize() {
  return note(
      emulator::spoil_captures(emulator::minds_everything, cudaErrorStreamCaptureUnsupported));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!emulator::exists(stream)) return note(cudaErrorInvalidResourceHandle);
  if (!event->capture) return cudaSuccess;  // the work it marks has run already
  if (emulator::is_default(stream)) return note(cudaErrorStreamCaptureImplicit);
  stream->capture = event->capture;  // the capture spreads to streams that depend on it
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return note(emulator::submit(stream, [=] {
    function(data);
    return cudaSuccess;
  }));
}

// ---------------------------------------------------------------------------------------------
// Events

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new emulator::Event;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return note(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!emulator::exists(stream)) return note(cudaErrorInvalidResourceHandle);
  event->capture = emulator::capture_of(stream) ? stream->capture : nullptr;
  if (event->capture) return cudaSuccess;
  event->recorded = true;
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}

static cudaError_t finished(cudaEvent_t event) {
  return note(event->capture ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return finished(event); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return finished(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->recorded || !end->recorded) return note(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

// ---------------------------------------------------------------------------------------------
// Capture and graphs

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
  {
    const std::lock_guard<std::mutex> lock(emulator::mutex);
    for (emulator::Stream* other : emulator::streams) {
      if (other->capture == capture) other->capture = nullptr;
    }
    auto& all = emulator::captures;
    for (size_t i = all.size(); i-- > 0;) {
      const auto other = all[i].lock();
      if (!other || other == capture) all.erase(all.begin() + static_cast<ptrdiff_t>(i));
    }
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
