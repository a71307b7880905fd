"""What the families' configurations check: activations, extents, probabilities."""

from __future__ import annotations

from typing import Any

from pymodel.errors import ConfigError

# Hugging Face's names of activations; several are one function computed in different ways.
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


def check_positive(config: Any, *names: str) -> None:
    """Raises ConfigError unless these keys are None or at least 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")


def check_probability(config: Any, *names: str) -> None:
    """Raises ConfigError unless these keys are None or probabilities below 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0.0 <= value < 1.0:
            raise ConfigError(f"{name} must be at least 0 and below 1, got {value}")


def check_activation(config: Any, name: str) -> None:
    """Raises ConfigError unless this key names an activation."""
    value = getattr(config, name)
    if value not in ACTIVATIONS:
        raise ConfigError(f"{name} {value!r} is not built in; expected one of {', '.join(ACTIVATIONS)}")


def check_divides(config: Any, part: str, whole: str) -> None:
    """Raises ConfigError unless the number under one key divides that under another."""
    divisor, number = getattr(config, part), getattr(config, whole)
    if number % divisor:
        raise ConfigError(f"{part} must divide {whole}, got {whole} {number} and {part} {divisor}")
