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

}  // namespace

bool is_default(cudaStream_t stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }

bool exists(cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  return is_default(stream) || streams.count(stream) > 0;
}

Capture* capture_of(cudaStream_t stream) {
  return is_default(stream) ? nullptr : stream->capture.get();
}

void leave_capture(const Capture& capture) {
  const std::lock_guard<std::mutex> lock(mutex);
  for (Stream* stream : streams) {
    if (stream->capture.get() == &capture) stream->capture = nullptr;
  }
}

cudaError_t submit(cudaStream_t stream, Work work) {
  if (!exists(stream)) return cudaErrorInvalidResourceHandle;
  if (Capture* capture = capture_of(stream)) {
    if (capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    capture->graph.work.push_back(std::move(work));
    return cudaSuccess;
  }
  const cudaError_t error = is_default(stream) ? forbid_default_stream() : cudaSuccess;
  return error == cudaSuccess ? work() : error;
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
cudaError_t cudaDeviceSynchronize() { return note(emulator::forbid_waiting()); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!emulator::exists(stream)) return note(cudaErrorInvalidResourceHandle);
  if (!event->capture) return cudaSuccess;  // the work it marks has run already
  if (event->capture->ended) return note(cudaErrorCapturedEvent);
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
  return note(event->capture ? cudaErrorCapturedEvent : cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return finished(event); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return finished(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->recorded || !end->recorded) return note(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

}  // namespace pymodel::simt
