// Names of activations as Python spells them.
#pragma once

#include <string>
#include <utility>

#include "core/activation.h"
#include "core/errors.h"

namespace pymodel {

inline Activation parse_activation(const char* op, const std::string& name) {
  static constexpr std::pair<const char*, Activation> kNames[] = {
      {"none", Activation::none},           {"relu", Activation::relu}, {"gelu", Activation::gelu},
      {"gelu_tanh", Activation::gelu_tanh}, {"silu", Activation::silu}, {"tanh", Activation::tanh},
      {"sigmoid", Activation::sigmoid},
  };
  std::string known;
  for (const auto& [text, activation] : kNames) {
    if (name == text) return activation;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw ShapeError(std::string(op) + ": activation '" + name + "' is unknown; expected one of " +
                   known);
}

}  // namespace pymodel
