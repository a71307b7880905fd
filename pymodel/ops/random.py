"""Random tensors: every value is a pure function of the seed, the call and the element's index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pymodel import _core
from pymodel.random import next_offset
from pymodel.tensor import Tensor, empty


def rand(
    shape: Sequence[int], dtype: str = "float32", device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of draws from the uniform distribution on [0, 1).

    Args:
        shape: any.
        dtype: "float32", "float16" or "bfloat16"; all hold the same draws, rounded.
        device: where it lives; the draws are the same everywhere.
        requires_grad: whether gradients are collected for it.

    Raises: TypeError for other dtypes.
    """
    result = uniform_(empty(shape, dtype, device))
    return result.requires_grad_() if requires_grad else result


def randn(
    shape: Sequence[int], dtype: str = "float32", device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of draws from the normal distribution of mean 0 and variance 1.

    Args, Raises: as `rand`.

    Source: Box and Muller, "A note on the generation of random normal deviates", 1958.
    """
    result = normal_(empty(shape, dtype, device))
    return result.requires_grad_() if requires_grad else result


def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Fills x in place with draws from the uniform distribution on [low, high).

    x = low + (high - low) * u, with u a multiple of 2^-24 in [0, 1); rounding to x's dtype may give high.

    The filling is not recorded: gradients do not see it.

    Args:
        x: float32, float16 or bfloat16 of any shape and strides.
        low, high: finite bounds, low <= high.

    Returns: x.

    Raises: ValueError for bounds in the wrong order, TypeError for other dtypes.
    """
    if not low <= high:
        raise ValueError(f"uniform_: low must not exceed high, got low={low} and high={high}")
    return _fill(_core.random_uniform, x, low, high - low)


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fills x in place with draws from the normal distribution.

    x = mean + std * z, with z by Box and Muller from 32-bit words, so that |z| < 6.8

    The filling is not recorded: gradients do not see it.

    Args:
        x: float32, float16 or bfloat16 of any shape and strides.
        mean: of the distribution.
        std: its standard deviation, not negative.

    Returns: x.

    Raises: ValueError for a negative std, TypeError for other dtypes.

    Source: Box and Muller, "A note on the generation of random normal deviates", 1958.
    """
    if not std >= 0.0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return _fill(_core.random_normal, x, mean, std)


def _fill(kernel: Callable[..., None], x: Tensor, location: float, scale: float) -> Tensor:
    array = x._array
    _core.memory_written(array)
    target = array if array.contiguous else array.empty_like()
    kernel(target.reshape([target.numel]), location, scale, *next_offset())
    if target is not array:
        _core.copy(target, array)
    return x
