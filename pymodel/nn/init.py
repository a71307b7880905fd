"""Initial values of parameters, drawn from the library's own generator.

A draw depends on the seed and the order of the calls alone: `pymodel.manual_seed(0)` gives the same
weights on every device. Every function fills its tensor in place and returns it; gradients do not
see it.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator

from pymodel import _core, ops
from pymodel.tensor import Tensor

_enabled = contextvars.ContextVar("initial values are written", default=True)


@contextlib.contextmanager
def no_init() -> Iterator[None]:
    """Functions of this module do nothing inside the block, and draw nothing.

    For building a model whose weights are loaded right away: its memory stays as it came.
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draws from the normal distribution. Raises: ValueError for a negative std."""
    return ops.normal_(x, mean, std) if _enabled.get() else x


def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draws from the uniform distribution on [low, high). Raises: ValueError for low above high."""
    return ops.uniform_(x, low, high) if _enabled.get() else x


def constant_(x: Tensor, value: float) -> Tensor:
    """One value everywhere."""
    if _enabled.get():
        _core.memory_written(x._array)
        _core.fill(x._array, float(value))
    return x


def zeros_(x: Tensor) -> Tensor:
    """Zeros everywhere."""
    return constant_(x, 0.0)


def ones_(x: Tensor) -> Tensor:
    """Ones everywhere."""
    return constant_(x, 1.0)


# ------------------------------------------------------------------------------------------------
# Deviations that keep the size of activations and gradients from layer to layer.


def xavier_uniform_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform on [-a, a), a = gain * sqrt(6 / (fan_in + fan_out)).

    Args:
        x: a weight of at least two dimensions, (out, in, ...); the fans of (in, out) are the same two.
        gain: what the activation that follows asks for; see `calculate_gain`.

    Raises: ValueError for fewer dimensions.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    bound = gain * math.sqrt(6.0 / max(1, sum(_fans("xavier_uniform_", x))))
    return uniform_(x, -bound, bound)


def xavier_normal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with deviation gain * sqrt(2 / (fan_in + fan_out)); otherwise as `xavier_uniform_`."""
    return normal_(x, std=gain * math.sqrt(2.0 / max(1, sum(_fans("xavier_normal_", x)))))


def kaiming_uniform_(
    x: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    transposed: bool = False,
) -> Tensor:
    """Uniform on [-b, b), b = gain * sqrt(3 / fan).

    Args:
        x: a weight of at least two dimensions, (out, in, ...).
        a: the slope below zero of a leaky ReLU.
        mode: "fan_in" keeps the size of activations, "fan_out" that of gradients.
        nonlinearity: what follows; see `calculate_gain`.
        transposed: x is (in, out), as in `Conv1D`.

    Raises: ValueError for fewer dimensions or unknown names.

    Source: He et al., "Delving Deep into Rectifiers", arXiv:1502.01852.
    """
    bound = math.sqrt(3.0) * _kaiming("kaiming_uniform_", x, a, mode, nonlinearity, transposed)
    return uniform_(x, -bound, bound)


def kaiming_normal_(
    x: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    transposed: bool = False,
) -> Tensor:
    """Normal with deviation gain / sqrt(fan); otherwise as `kaiming_uniform_`."""
    return normal_(x, std=_kaiming("kaiming_normal_", x, a, mode, nonlinearity, transposed))


def calculate_gain(nonlinearity: str, a: float = 0.0) -> float:
    """The factor that makes up for what an activation takes from the deviation of its input.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        a: the slope below zero of "leaky_relu".

    Raises: ValueError for another name.
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + a * a)),
        "selu": 0.75,
    }
    if nonlinearity not in gains:
        known = ", ".join(gains)
        raise ValueError(f"calculate_gain: nonlinearity {nonlinearity!r} is unknown; expected one of {known}")
    return gains[nonlinearity]


def _kaiming(op: str, x: Tensor, a: float, mode: str, nonlinearity: str, transposed: bool) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'{op}: mode must be "fan_in" or "fan_out", got {mode!r}')
    fans = _fans(op, x)
    fan = fans[(mode == "fan_out") != transposed]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def _fans(op: str, x: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, ...)."""
    if x.ndim < 2:
        raise ValueError(f"{op}: a weight of at least two dimensions is expected, got shape {x.shape}")
    receptive = math.prod(x.shape[2:])
    return x.shape[1] * receptive, x.shape[0] * receptive
