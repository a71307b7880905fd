"""`x[...]`: NumPy's indexing, read with gradients and written without.

Integers, slices with positive steps, None and Ellipsis give views. Arrays of integers and boolean
masks gather rows into a copy.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from pymodel import _core
from pymodel.autograd import PartialGradient, record, wants_grad
from pymodel.ops.arrays import rows
from pymodel.ops.shape import permute, reshape, reshaped, view_of
from pymodel.tensor import Tensor, tensor

_EVERYTHING = slice(None)


class _Indices:
    """An index array for one dimension; one that came from a mask knows the extent of that mask."""

    __slots__ = ("mask_extent", "values")

    def __init__(self, values: np.ndarray, mask_extent: int | None = None) -> None:
        self.values = values
        self.mask_extent = mask_extent


# An int, a slice, None or _Indices; while a key is being read also Ellipsis.
_Part = Any


def _read_key(key: Any, shape: tuple[int, ...]) -> list[_Part]:
    """The parts of a key: one for each dimension of the shape, and None where one is added."""
    parts: list[_Part] = []
    for part in key if isinstance(key, tuple) else (key,):
        parts += _read_part(part)
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("indexing: only one ... may stand in a key")
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if used > len(shape):
        raise IndexError(f"indexing: {used} indices are too many for a tensor of shape {shape}")
    at = ellipses[0] if ellipses else len(parts)
    return [*parts[:at], *[_EVERYTHING] * (len(shape) - used), *parts[at + 1 :]]


def _read_part(part: Any) -> list[_Part]:
    if part is None or part is Ellipsis:
        return [part]
    if isinstance(part, slice):
        if part.step is not None and part.step < 1:
            raise ValueError(f"indexing: slices have positive steps, got {part.step}")
        return [part]
    if isinstance(part, (Tensor, np.ndarray, list)):
        return _read_array(np.asarray(part))
    if not isinstance(part, (bool, np.bool_)):
        try:
            return [operator.index(part)]
        except TypeError:
            pass
    raise TypeError(
        "indexing: expected integers, slices, None, ..., integer arrays or boolean masks, "
        f"got {type(part).__name__}"
    )


def _read_array(array: np.ndarray) -> list[_Part]:
    """An index array as it is, a mask as one index array for each of its dimensions."""
    if array.dtype == np.bool_ and array.ndim > 0:
        found = array.nonzero()
        return [_Indices(values, extent) for values, extent in zip(found, array.shape, strict=True)]
    if array.size == 0 and array.dtype == np.float64:  # NumPy's idea of an empty list
        array = array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"indexing: index arrays hold integers or are masks of bool, got {array.dtype}")
    return [int(array)] if array.ndim == 0 else [_Indices(array.astype(np.int64))]


# -- views ------------------------------------------------------------------------------------------


def _region(array: _core.Array, parts: Sequence[_Part]) -> _core.Array:
    """The view that integers, slices and None select."""
    dim = dims_before = 0
    for part in parts:
        if part is None:
            array = array.unsqueeze(dim)
            dim += 1
            continue
        extent = array.shape[dim]
        if isinstance(part, slice):
            if part != _EVERYTHING:
                start, stop, step = part.indices(extent)
                array = array.slice(dim, start, max(start, stop), step)
            dim += 1
        else:
            if not -extent <= part < extent:
                raise IndexError(
                    f"indexing: index {part} is out of range for dimension {dims_before} of extent {extent}"
                )
            array = array.select(dim, part)
        dims_before += 1
    return array


def _view(x: Tensor, parts: Sequence[_Part]) -> Tensor:
    array = _region(x._array, parts)
    shape, dtype, device = x.shape, x.dtype, x.device
    if array.numel == x.numel():
        return view_of("indexing", x, array, lambda dy: reshaped(dy, shape))

    def backward(dy: _core.Array) -> PartialGradient:
        def add_to(buffer: _core.Array) -> None:
            place = _region(buffer, parts)
            _core.binary("add", place, dy, place)

        return PartialGradient(shape, dtype, device, add_to)

    return view_of("indexing", x, array, backward)


# -- copies -----------------------------------------------------------------------------------------


def _gather(x: Tensor, parts: Sequence[_Part]) -> Tensor:
    """Index arrays, perhaps beside integers, slices and None.

    The indexed dimensions are brought to the front and seen as one, so that every case is a choice of
    rows of a matrix.
    """
    advanced = [i for i, part in enumerate(parts) if part is not None and not isinstance(part, slice)]
    if advanced[-1] - advanced[0] + 1 != len(advanced):
        raise IndexError(
            "indexing: index arrays and integers must stand side by side when there is an index array; "
            "index in two steps"
        )
    x = _view(x, [_EVERYTHING if isinstance(part, _Indices) else part for part in parts])
    front = advanced[0]
    indices = [part for part in parts if isinstance(part, _Indices)]
    behind = front + len(indices)
    chosen = _positions(indices, x.shape[front:behind])
    order = [*range(front, behind), *range(front), *range(behind, x.ndim)]
    if front:
        x = permute(x, order)
    rest = x.shape[len(indices) :]
    table = reshape(x, math.prod(x.shape[: len(indices)]), math.prod(rest))
    result = reshape(_take_rows(table, chosen.ravel()), *chosen.shape, *rest)
    if not front:
        return result
    new = chosen.ndim
    return permute(result, [*range(new, new + front), *range(new), *range(new + front, result.ndim)])


def _positions(indices: Sequence[_Indices], extents: Sequence[int]) -> np.ndarray:
    """Row-major positions in dimensions of these extents, int64, of the indices' broadcast shape."""
    for part, extent in zip(indices, extents, strict=True):
        if part.mask_extent not in (None, extent):
            raise IndexError(
                f"indexing: a mask of extent {part.mask_extent} lies on a dimension of extent {extent}"
            )
        outside = (part.values < -extent) | (part.values >= extent)
        if outside.any():
            raise IndexError(f"indexing: index {part.values[outside][0]} is out of range for extent {extent}")
    try:
        arrays = np.broadcast_arrays(*[part.values for part in indices])
    except ValueError:
        shapes = ", ".join(str(part.values.shape) for part in indices)
        raise IndexError(f"indexing: index arrays of shapes {shapes} do not broadcast") from None
    positions = np.zeros(arrays[0].shape, dtype=np.int64)
    for array, extent in zip(arrays, extents, strict=True):
        positions = positions * extent + np.where(array < 0, array + extent, array)
    return positions


def _take_rows(table: Tensor, positions: np.ndarray) -> Tensor:
    """y[i] = table[positions[i]]; backward adds rows in the order of i."""
    index = tensor(positions, device=table.device)._array
    source = rows(table._array)
    y = _core.empty([len(positions), table.shape[1]], table.dtype, table.device)
    _core.embedding_forward(index, source, y)
    result = Tensor(y)
    if wants_grad(table):
        shape, dtype, device = table.shape, table.dtype, table.device

        def backward(dy: _core.Array) -> PartialGradient:
            def add_to(buffer: _core.Array) -> None:
                _core.embedding_backward(index, rows(dy), buffer, -1, True)

            return PartialGradient(shape, dtype, device, add_to)

        record("indexing", result, (table,), backward)
    return result


# -- methods ----------------------------------------------------------------------------------------


def getitem(x: Tensor, key: Any) -> Tensor:
    """`x[key]` as in NumPy.

    Args:
        x: any tensor.
        key: integers, slices with positive steps, None and Ellipsis give a view; integer arrays (lists,
            NumPy arrays, tensors) and boolean masks, side by side, give a copy with the rows chosen. They
            are checked on the host, which waits for those that lie on another device.

    Raises: IndexError for an index out of range, too many indices, or a mask that does not fit;
    ValueError for a negative step; TypeError for anything else.
    """
    parts = _read_key(key, x.shape)
    if any(isinstance(part, _Indices) for part in parts):
        return _gather(x, parts)
    return _view(x, parts)


def setitem(x: Tensor, key: Any, value: Any) -> None:
    """`x[key] = value` for integers, slices, None and Ellipsis; the value is broadcast and converted.

    Args:
        x: a tensor that is not being differentiated.
        key: as for reading a view.
        value: a number, tensor, NumPy array or nested lists that broadcast to `x[key]`.

    Raises: RuntimeError when x or the value requires grad outside `no_grad`, because the assignment
    would not be recorded; TypeError for index arrays; ValueError for shapes that do not fit.
    """
    if wants_grad(x):
        raise RuntimeError(
            "x[...] = value: x requires grad, and assignments are not recorded; "
            "assign inside `with pymodel.no_grad():` or build the result with ops.cat or ops.stack"
        )
    if isinstance(value, Tensor) and wants_grad(value):
        raise RuntimeError(
            "x[...] = value: the value requires grad, and assignments are not recorded; "
            "assign value.detach() or build the result with ops.cat or ops.stack"
        )
    parts = _read_key(key, x.shape)
    if any(isinstance(part, _Indices) for part in parts):
        raise TypeError(
            "x[...] = value: expected integers, slices, None or ..., got an index array or mask; "
            "on the CPU assign to x.numpy()[...]"
        )
    region = _region(x._array, parts)
    _core.memory_written(region)
    if isinstance(value, (int, float, np.generic)):
        _core.fill(region, value.item() if isinstance(value, np.generic) else value)
    else:
        source = value if isinstance(value, Tensor) else tensor(value, dtype=x.dtype, device=x.device)
        _core.copy(source._array.expand(region.shape), region)


for _name, _method in (("__getitem__", getitem), ("__setitem__", setitem)):
    setattr(Tensor, _name, _method)
