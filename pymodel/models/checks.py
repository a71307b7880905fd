"""What the families' configurations check: activations, extents, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
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


_FLOATING = ("float32", "float16", "bfloat16")
_OF_THE_CALL = ("output_attentions", "output_hidden_states")


def parameter_dtype(value: Any) -> str | None:
    """The name of a dtype for parameters, given by its name or as torch's, NumPy's or ml_dtypes'; None
    for None and "auto", which leave it to the file. Raises: ConfigError for anything else."""
    name = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    name = name.removeprefix("torch.")
    if value is None or name == "auto":
        return None
    if name not in _FLOATING:
        raise ConfigError(f"dtype must be {', '.join(_FLOATING)} or auto, got {value!r}")
    return name


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raises ConfigError for keys that transformers reads from a configuration and we do not."""
    for name in _OF_THE_CALL:
        if changes.get(name):
            raise ConfigError(f"{name} is an argument of the call: model(input_ids, {name}=True)")
    if changes.get("return_dict") is False:
        raise ConfigError("return_dict is an argument of the call: model(input_ids, return_dict=False)")


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
