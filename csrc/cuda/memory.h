// Device memory from the runtime's stream-ordered pool, and page-locked host memory.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/backend.h"

namespace pymodel::PYMODEL_BACKEND {

// The memory of one device.
//
// While a stream is being captured, its blocks come from a store that belongs to the graph: a
// replay runs on the addresses of the capture, so they may serve nothing else as long as the graph
// lives.
class DeviceMemory {
 public:
  explicit DeviceMemory(int index) : index_(index) {}

  void* allocate(size_t bytes, cudaStream_t stream);  // throws OutOfMemory
  void release(void* data, size_t bytes, cudaStream_t stream) noexcept;
  void empty_cache();
  DeviceMemoryStats stats();
  void reset_peak();

  void begin_capture(cudaStream_t stream);
  void end_capture(cudaStream_t stream, cudaGraphExec_t graph);  // null: the capture failed
  void destroy_graph(cudaGraphExec_t graph) noexcept;

 private:
  // What a graph holds. Blocks that are released during the capture serve later allocations of it.
  struct GraphStore {
    std::map<size_t, std::vector<void*>> free;
    std::vector<void*> blocks;
    size_t in_use = 0;  // blocks that tensors still hold
    bool capturing = true, destroyed = false;
  };
  struct Release {
    void* data;
    cudaStream_t stream;
  };

  void* allocate_from_pool(size_t bytes, cudaStream_t stream);
  void* allocate_for_graph(size_t bytes, GraphStore* store);
  void give_back(GraphStore* store) noexcept;  // once neither graph nor tensors use it
  [[noreturn]] void throw_out_of_memory(size_t bytes, cudaError_t status);
  cudaMemPool_t pool();

  const int index_;
  std::mutex mutex_;
  cudaMemPool_t pool_ = nullptr;
  size_t in_use_ = 0, peak_in_use_ = 0;
  std::map<cudaStream_t, GraphStore*> captures_;         // under way
  std::map<cudaGraphExec_t, GraphStore*> graphs_;        // alive
  std::unordered_map<void*, GraphStore*> graph_blocks_;  // handed out
  std::vector<Release> deferred_;  // freeing is no part of a graph: done once captures have ended
};

// Page-locked memory, kept for reuse because locking pages is slow. A released block is handed out
// again only after the copies that read it are done.
class PinnedMemory {
 public:
  void* allocate(size_t bytes);  // throws OutOfMemory
  void release(void* data, size_t bytes) noexcept;
  void hold(const void* data, cudaStream_t stream);

 private:
  struct Block {
    size_t bytes;
    cudaEvent_t done;  // of the latest copy; null before the first
  };

  std::mutex mutex_;
  std::map<void*, Block> blocks_;              // all, by address
  std::map<size_t, std::vector<void*>> free_;  // by size
};

}  // namespace pymodel::PYMODEL_BACKEND
