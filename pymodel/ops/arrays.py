"""Array helpers that several operations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymodel import _core
from pymodel.autograd import accumulation_buffer
from pymodel.tensor import Tensor, tensor


def rows(array: _core.Array) -> _core.Array:
    """(..., columns) seen as (rows, columns), copied only where no view has that shape."""
    return _core.rows(array)


def copy_of(array: _core.Array) -> _core.Array:
    """A contiguous copy."""
    copy = array.empty_like()
    _core.copy(array, copy)
    return copy


def contiguous(array: _core.Array) -> _core.Array:
    """The array, or a copy where its elements do not lie densely in row-major order."""
    return array if array.contiguous else copy_of(array)


def dense(array: _core.Array) -> _core.Array:
    """The array, or a copy where its last dimension does not lie densely."""
    if array.numel == 0 or array.ndim == 0 or array.shape[-1] <= 1 or array.strides[-1] == 1:
        return array
    return copy_of(array)


def integers(values: Tensor | Sequence[Any] | np.ndarray, device: str) -> _core.Array:
    """The array of a tensor, or one on the device made from what the caller has."""
    return values._array if isinstance(values, Tensor) else tensor(values, device=device)._array


def converted(array: _core.Array, dtype: str) -> _core.Array:
    """The array, or a contiguous copy in another dtype."""
    if array.dtype == dtype:
        return array
    out = _core.empty(array.shape, dtype, array.device)
    _core.copy(array, out)
    return out


def flat(array: _core.Array) -> _core.Array:
    """All elements in row-major order as one dense dimension, copied only where they lie otherwise."""
    return contiguous(array).reshape([array.numel])


def element_name(argument: str, position: int, shape: Sequence[int]) -> str:
    """How an error names the element at a flat position: "targets[1, 5]"."""
    index = np.unravel_index(position, shape)
    return f"{argument}[{', '.join(map(str, index))}]" if index else argument


def parameter_gradients(
    weight: Tensor | None, bias: Tensor | None
) -> tuple[_core.Array | None, _core.Array | None, bool]:
    """Where the gradients of weight and bias go, and whether they are added to what is there.

    The kernel accumulates into both or into neither.
    """
    first = weight if weight is not None and weight.requires_grad else None
    second = bias if bias is not None and bias.requires_grad else None
    dfirst = None if first is None else accumulation_buffer(first)
    dsecond = None if second is None else accumulation_buffer(second)
    found = (dfirst is not None) + (dsecond is not None)
    if found and found == (first is not None) + (second is not None):
        return dfirst, dsecond, True
    return (
        None if first is None else first._array.empty_like(),
        None if second is None else second._array.empty_like(),
        False,
    )
