// Starting a kernel.
#pragma once

#include <memory>
#include <tuple>
#include <utility>

#include "simt/runtime_types.h"

namespace pymodel::simt {
namespace emulator {

// Checks the configuration, then runs `body(call)` for every thread of the grid, or records it
// where the stream captures; `call` lives until then.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   std::shared_ptr<const void> call, void (*body)(const void*));

template <typename... Parameters>
struct KernelCall {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;

  static void run(const void* self) {
    const auto& call = *static_cast<const KernelCall*>(self);
    std::apply(call.kernel, call.arguments);
  }
};

}  // namespace emulator

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  using Call = emulator::KernelCall<Parameters...>;
  static_assert(sizeof(std::tuple<Parameters...>) <= 32764, "CUDA's limit for kernel parameters");
  auto call = std::make_shared<const Call>(
      Call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)});
  return emulator::launch(*config, reinterpret_cast<const void*>(kernel), std::move(call),
                          &Call::run);
}

}  // namespace pymodel::simt
