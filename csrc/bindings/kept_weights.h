// Weights that stay packed from one product to the next, on the CPU.
//
// Inside a block of Python's `packed_weights(module)` a KeptWeights is in use: of the weights it
// was given it keeps the forms that products read, each made by the first product that needs it.
// What changes weights says so, after which they are packed anew: optimizers and load_state_dict
// through weights_changed(), writes into tensors through memory_written().
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/array.h"
#include "ops/gemm/gemm.h"

namespace pymodel {

// One form of a weight: as B of the products that read it in these strides.
struct KeptWeight {
  Array factor;  // that B: a view of the weight
  Array packed;  // bytes, gemm_kept_bytes of them
  bool filled;   // else it is only memory
};

class KeptWeights {
 public:
  explicit KeptWeights(std::vector<Array> weights);

  // The form that `g` reads, or null: b is none of the weights, or such a product packs nothing.
  KeptWeight* find(const Gemm& g, const Array& b);
  void written(const Array& array);
  int64_t bytes() const;  // of all forms

  bool is_open = false;  // until its block ends

 private:
  static constexpr size_t kMostForms = 8;  // of one weight: as stored, transposed, and parts of it

  void forget();  // what was packed; the memory stays

  std::vector<Array> weights_;  // keeps their memory from being handed out again
  // By the address of a weight's first element.
  std::unordered_map<const void*, std::vector<std::unique_ptr<KeptWeight>>> forms_;
  std::unordered_set<const Storage*> storages_;
  int64_t version_;
};

// That of the blocks that the calling thread is in; null outside all of them.
KeptWeight* find_kept_weight(const Gemm& g, const Array& b);

void weights_changed();
void memory_written(const Array& array);

}  // namespace pymodel
