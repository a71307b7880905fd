#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>

#include "core/errors.h"
#include "cuda/launch.h"
#include "cuda/memory.h"

namespace pymodel::PYMODEL_BACKEND {
namespace {

// Pinned and graph blocks are kept by size: rounded up, so that nearly equal requests share them.
size_t round_size(size_t bytes) {
  constexpr size_t kSmallest = 512;
  size_t size = kSmallest;
  while (size < bytes && size < (size_t{1} << 20)) size *= 2;
  return size >= bytes ? size : (bytes + (size_t{1} << 20) - 1) >> 20 << 20;
}

std::string readable(size_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

// Allocation is forbidden to a thread that captures, unless it says that it knows what it does.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Device memory

cudaMemPool_t DeviceMemory::pool() {
  if (pool_ != nullptr) return pool_;
  check(cudaDeviceGetDefaultMemPool(&pool_, index_), "finding the memory pool");
  // Freed memory stays with the process: a warm training step asks the driver for none.
  uint64_t threshold = std::numeric_limits<uint64_t>::max();
  check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &threshold),
        "setting up the memory pool");
  return pool_;
}

void* DeviceMemory::allocate(size_t bytes, cudaStream_t stream) {
  bytes = std::max(bytes, size_t{1});  // kernels take null for an argument that was not given
  std::lock_guard<std::mutex> lock(mutex_);
  const auto capture = captures_.find(stream);
  void* data = capture != captures_.end() ? allocate_for_graph(bytes, capture->second)
                                          : allocate_from_pool(bytes, stream);
  in_use_ += bytes;
  peak_in_use_ = std::max(peak_in_use_, in_use_);
  return data;
}

void* DeviceMemory::allocate_from_pool(size_t bytes, cudaStream_t stream) {
  pool();
  void* data = nullptr;
  cudaError_t status = cudaMallocAsync(&data, bytes, stream);
  if (status == cudaErrorMemoryAllocation && captures_.empty()) {
    // What other streams have freed can serve once they are done, and pieces of the pool that are
    // too small for this request can be joined by the driver.
    cudaGetLastError();
    check(cudaDeviceSynchronize(), "waiting for memory");
    check(cudaMemPoolTrimTo(pool_, 0), "trimming the memory pool");
    status = cudaMallocAsync(&data, bytes, stream);
  }
  if (status != cudaSuccess) throw_out_of_memory(bytes, status);
  return data;
}

void* DeviceMemory::allocate_for_graph(size_t bytes, GraphStore* store) {
  const size_t size = round_size(bytes);
  std::vector<void*>& free = store->free[size];
  void* data = nullptr;
  if (!free.empty()) {
    data = free.back();
    free.pop_back();
  } else {
    const RelaxedCapture relaxed;
    const cudaError_t status = cudaMalloc(&data, size);
    if (status != cudaSuccess) throw_out_of_memory(bytes, status);
    store->blocks.push_back(data);
  }
  graph_blocks_[data] = store;
  ++store->in_use;
  return data;
}

void DeviceMemory::release(void* data, size_t bytes, cudaStream_t stream) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  bytes = std::max(bytes, size_t{1});
  in_use_ -= bytes;
  const auto block = graph_blocks_.find(data);
  if (block != graph_blocks_.end()) {
    GraphStore* const store = block->second;
    graph_blocks_.erase(block);
    --store->in_use;
    if (store->capturing) store->free[round_size(bytes)].push_back(data);
    give_back(store);
  } else if (!captures_.empty()) {
    deferred_.push_back({data, stream});
  } else {
    cudaFreeAsync(data, stream);  // fails only where the driver has gone before us, at exit
  }
}

void DeviceMemory::give_back(GraphStore* store) noexcept {
  if (!store->destroyed || store->in_use > 0) return;
  for (void* block : store->blocks) cudaFree(block);  // waits for the device, replays included
  delete store;
}

void DeviceMemory::begin_capture(cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  captures_[stream] = new GraphStore;
}

void DeviceMemory::end_capture(cudaStream_t stream, cudaGraphExec_t graph) {
  std::lock_guard<std::mutex> lock(mutex_);
  GraphStore* const store = captures_.at(stream);
  captures_.erase(stream);
  store->capturing = false;
  store->destroyed = graph == nullptr;
  if (graph != nullptr) graphs_[graph] = store;
  give_back(store);
  if (!captures_.empty()) return;
  for (const Release& release : deferred_) cudaFreeAsync(release.data, release.stream);
  deferred_.clear();
}

void DeviceMemory::destroy_graph(cudaGraphExec_t graph) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = graphs_.find(graph);
  if (found == graphs_.end()) return;
  found->second->destroyed = true;
  give_back(found->second);
  graphs_.erase(found);
}

void DeviceMemory::throw_out_of_memory(size_t bytes, cudaError_t status) {
  if (status != cudaErrorMemoryAllocation) check(status, "allocating memory");
  cudaGetLastError();
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw OutOfMemory("out of memory on " + device_name({DeviceType::PYMODEL_BACKEND, index_}) +
                    ": " + readable(bytes) + " were asked for with " + readable(in_use_) +
                    " in use by tensors and " + readable(free) + " of " + readable(total) +
                    " free; use a smaller batch or sequence, drop tensors that are no longer "
                    "needed, or stop other programs on the device");
}

void DeviceMemory::empty_cache() {
  std::lock_guard<std::mutex> lock(mutex_);
  check(cudaDeviceSynchronize(), "waiting for the device");
  check(cudaMemPoolTrimTo(pool(), 0), "trimming the memory pool");
}

DeviceMemoryStats DeviceMemory::stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  DeviceMemoryStats stats;
  stats.in_use = in_use_;
  stats.peak_in_use = peak_in_use_;
  uint64_t reserved = 0;
  check(cudaMemPoolGetAttribute(pool(), cudaMemPoolAttrReservedMemCurrent, &reserved),
        "reading the memory pool");
  stats.reserved = static_cast<size_t>(reserved);
  check(cudaMemGetInfo(&stats.free, &stats.total), "reading the free memory");
  return stats;
}

void DeviceMemory::reset_peak() {
  std::lock_guard<std::mutex> lock(mutex_);
  peak_in_use_ = in_use_;
}

// ---------------------------------------------------------------------------------------------
// Pinned memory

void* PinnedMemory::allocate(size_t bytes) {
  const RelaxedCapture relaxed;  // queries and allocations are no part of a graph
  const size_t size = round_size(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<void*>& free = free_[size];
  for (size_t i = 0; i < free.size(); ++i) {
    void* const data = free[i];
    const cudaEvent_t done = blocks_.at(data).done;
    if (done != nullptr && cudaEventQuery(done) != cudaSuccess) {
      cudaGetLastError();  // of an event inside a graph, whose memory stays the graph's
      continue;
    }
    free.erase(free.begin() + static_cast<std::ptrdiff_t>(i));
    return data;
  }
  void* data = nullptr;
  const cudaError_t status = cudaHostAlloc(&data, size, cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw OutOfMemory("out of pinned memory: " + readable(bytes) +
                      " were asked for; use ordinary memory for tensors of this size");
  }
  check(status, "allocating pinned memory");
  blocks_[data] = {size, nullptr};
  return data;
}

void PinnedMemory::release(void* data, size_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  free_[round_size(bytes)].push_back(data);
}

void PinnedMemory::hold(const void* data, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = blocks_.find(const_cast<void*>(data));
  if (found == blocks_.end()) return;
  cudaEvent_t& done = found->second.done;
  if (done == nullptr) {
    check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "creating an event");
  }
  check(cudaEventRecord(done, stream), "recording an event");
}

}  // namespace pymodel::PYMODEL_BACKEND
