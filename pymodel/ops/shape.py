"""Tensors seen with another shape, taken to pieces and put together.

Views share memory with what they were taken from and cost no pass over it, forward or backward.
Names and arguments are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.errors import DeviceError
from pymodel.ops.arrays import copy_of
from pymodel.tensor import Tensor

_Backward = Callable[[_core.Array], Any]


def view_of(name: str, x: Tensor, array: _core.Array, backward: _Backward) -> Tensor:
    """`array`, which shows x's values, as a result that hands gradients to x."""
    result = Tensor(array)
    if wants_grad(x):
        record(name, result, (x,), backward)
    return result


def reshaped(array: _core.Array, shape: Sequence[int]) -> _core.Array:
    """The array with another shape, copied only where no view has it."""
    try:
        return array.reshape(shape)
    except ValueError:
        return copy_of(array).reshape(shape)


def _integers(values: tuple[Any, ...]) -> list[int]:
    """f(2, 3), f((2, 3)) and f([2, 3]) mean the same."""
    return list(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else list(values)


def _dim(op: str, dim: int, ndim: int) -> int:
    """A dimension counted from the front."""
    if not -ndim <= dim < ndim:
        raise ValueError(f"{op}: dimension {dim} is out of range for a tensor of {ndim} dimensions")
    return dim % ndim


# -- another shape ----------------------------------------------------------------------------------


def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The same elements in row-major order with another shape: a view where one exists, else a copy.

    Args:
        x: any tensor.
        shape: the new extents; one may be -1 and takes what is left.

    Raises: ValueError when the number of elements differs.
    """
    before = x.shape
    return view_of("reshape", x, reshaped(x._array, _integers(shape)), lambda dy: reshaped(dy, before))


def view(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """`reshape` that never copies.

    Raises: ValueError when x's strides allow no such view; use reshape.
    """
    before, wanted = x.shape, _integers(shape)
    return view_of("view", x, x._array.reshape(wanted), lambda dy: reshaped(dy, before))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim, both included, made into one."""
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = _dim("flatten", start_dim, x.ndim), _dim("flatten", end_dim, x.ndim)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
    extent = math.prod(x.shape[start : end + 1])
    return reshape(x, *x.shape[:start], extent, *x.shape[end + 1 :])


def squeeze(x: Tensor, dim: int | None = None) -> Tensor:
    """Without dimensions of extent 1, or without `dim` if that has extent 1."""
    kept = x.shape
    if dim is None:
        return view(x, [extent for extent in kept if extent != 1])
    dim = _dim("squeeze", dim, x.ndim)
    return view(x, [*kept[:dim], *kept[dim + 1 :]]) if kept[dim] == 1 else x


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new dimension of extent 1 at `dim`."""
    before = x.shape
    return view_of("unsqueeze", x, x._array.unsqueeze(dim), lambda dy: reshaped(dy, before))


# -- another order ----------------------------------------------------------------------------------


def permute(x: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """A view whose dimension i is dimension dims[i] of x."""
    order = _integers(dims)
    array = x._array.permute(order)
    inverse = [0] * len(order)
    for position, dim in enumerate(order):
        inverse[dim] = position
    return view_of("permute", x, array, lambda dy: dy.permute(inverse))


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions exchanged."""
    order = list(range(x.ndim))
    first, second = _dim("transpose", dim0, x.ndim), _dim("transpose", dim1, x.ndim)
    order[first], order[second] = second, first
    return permute(x, order)


def matrix_transpose(x: Tensor) -> Tensor:
    """`x.mT`: a view with the last two dimensions exchanged.

    Raises: ValueError for fewer than two dimensions.
    """
    if x.ndim < 2:
        raise ValueError(f"mT: a tensor of at least 2 dimensions is expected, got shape {x.shape}")
    return transpose(x, -2, -1)


def _matrix_transpose_of_2d(x: Tensor) -> Tensor:
    """`x.T`: the transpose of a matrix.

    Raises: ValueError for other than two dimensions, where its meaning would be a guess.
    """
    if x.ndim != 2:
        raise ValueError(
            f"T: a tensor of 2 dimensions is expected, got shape {x.shape}; "
            "use mT for batches of matrices or permute"
        )
    return transpose(x, 0, 1)


# -- repeated elements ------------------------------------------------------------------------------


def expand(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """A view in which dimensions of extent 1 are repeated without a copy; new ones go in front.

    Args:
        x: any tensor.
        shape: the new extents; -1 keeps that of x.

    Raises: ValueError when an extent other than 1 would change.
    """
    wanted, before = _integers(shape), x.shape
    extra = len(wanted) - len(before)
    if extra < 0 or any(extent < 0 for extent in wanted[:extra]) or any(extent < -1 for extent in wanted):
        raise ValueError(f"expand: a tensor of shape {before} cannot be expanded to {tuple(wanted)}")
    full = [before[i - extra] if extent == -1 else extent for i, extent in enumerate(wanted)]
    return view_of("expand", x, x._array.expand(full), lambda dy: _core.sum_to_shape(dy, before))


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`expand` under NumPy's name."""
    return expand(x, list(shape))


def repeat(x: Tensor, *counts: int | Sequence[int]) -> Tensor:
    """A copy of x laid counts[i] times along dimension i; with more counts than dimensions, x gets new
    ones in front.

    Raises: ValueError for fewer counts than dimensions or negative ones.
    """
    times = _integers(counts)
    if len(times) < x.ndim or any(count < 0 for count in times):
        raise ValueError(
            f"repeat: one count >= 0 for each dimension of shape {x.shape} is expected, got {tuple(times)}"
        )
    extents = (1,) * (len(times) - x.ndim) + x.shape
    out_shape = [count * extent for count, extent in zip(times, extents, strict=True)]
    result = _core.empty(out_shape, x.dtype, x.device)
    # Both in the one shape (count, extent, count, extent, ...): repeating is then broadcasting.
    # A dimension that is not repeated, or has one element, needs no pair.
    copies: list[int] = []
    source: list[int] = []
    for count, extent in zip(times, extents, strict=True):
        plain = count == 1 or extent == 1
        copies += [count * extent] if plain else [count, extent]
        source += [extent] if plain else [1, extent]
    _core.copy(reshaped(x._array, source), result.reshape(copies))
    before = x.shape
    return view_of(
        "repeat", x, result, lambda dy: _core.sum_to_shape(reshaped(dy, copies), source).reshape(before)
    )


# -- pieces -----------------------------------------------------------------------------------------


def _pieces(name: str, x: Tensor, take: Callable[[_core.Array], list[_core.Array]]) -> tuple[Tensor, ...]:
    """Views that cover x. Their gradients are written side by side into one buffer of x's shape."""
    results = tuple(Tensor(array) for array in take(x._array))
    if wants_grad(x):
        shape, dtype, device = x.shape, x.dtype, x.device

        def backward(*gradients: _core.Array | None) -> _core.Array:
            whole = _core.empty(shape, dtype, device)
            for place, gradient in zip(take(whole), gradients, strict=True):
                if gradient is None:
                    _core.fill(place, 0.0)
                else:
                    _core.copy(gradient, place)
            return whole

        record(name, results, (x,), backward)
    return results


def split(x: Tensor, sizes: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive views along a dimension.

    Args:
        x: (..., extent, ...).
        sizes: the extent of every piece but perhaps the last, or a list with that of each.
        dim: the dimension that is cut.

    Returns: views of x's shape but for `dim`. Their backward writes each gradient to its place in one
    buffer, so taking packed queries, keys and values apart costs one pass.

    Raises: ValueError when a list of sizes does not sum to the extent, or a size is not positive.
    """
    dim = _dim("split", dim, x.ndim)
    extent = x.shape[dim]
    if isinstance(sizes, int):
        if sizes < 1:
            raise ValueError(f"split: the size must be positive, got {sizes}; use a list for empty pieces")
        sizes = [min(sizes, extent - start) for start in range(0, extent, sizes)] or [0]
    lengths = list(sizes)
    if sum(lengths) != extent or any(length < 0 for length in lengths):
        raise ValueError(
            f"split: the sizes {lengths} must be >= 0 and sum to {extent}, the extent of dimension {dim}"
        )

    def take(array: _core.Array) -> list[_core.Array]:
        places, start = [], 0
        for length in lengths:
            places.append(array.slice(dim, start, start + length, 1))
            start += length
        return places

    return _pieces("split", x, take)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`split` into at most `chunks` pieces of equal extent, the last of which may be smaller."""
    if chunks < 1:
        raise ValueError(f"chunk: the number of chunks must be positive, got {chunks}")
    extent = x.shape[_dim("chunk", dim, x.ndim)]
    return split(x, max(1, -(-extent // chunks)), dim)


def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """One view per index of a dimension, without that dimension; one buffer for all gradients."""
    dim = _dim("unbind", dim, x.ndim)
    extent = x.shape[dim]
    return _pieces("unbind", x, lambda array: [array.select(dim, i) for i in range(extent)])


# -- together ---------------------------------------------------------------------------------------


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors laid one after the other along a dimension.

    Args:
        tensors: at least one, all of one dtype, on one device, and of one shape but for `dim`.
        dim: the dimension along which they are joined.

    Raises: ValueError for an empty list or shapes that do not fit, TypeError for mixed dtypes, DeviceError
    for tensors on several devices.
    """
    if len(tensors) == 0:
        raise ValueError("cat: at least one tensor is expected, got an empty list")
    first = tensors[0]
    dim = _dim("cat", dim, first.ndim)
    for index, x in enumerate(tensors):
        fits = x.ndim == first.ndim and x.shape[:dim] == first.shape[:dim]
        if not fits or x.shape[dim + 1 :] != first.shape[dim + 1 :]:
            raise ValueError(
                f"cat: tensor {index} has shape {x.shape}, which differs from {first.shape} "
                f"of tensor 0 in more than dimension {dim}"
            )
        if x.dtype != first.dtype:
            raise TypeError(
                f"cat: all tensors must be {first.dtype} as tensor 0 is, got {x.dtype} for tensor {index}; "
                f'convert it with .to("{first.dtype}")'
            )
        if x.device != first.device:
            raise DeviceError(
                f"cat: all tensors must be on one device, got {first.device} and {x.device}; "
                "move them with .to(device)"
            )
    lengths = [x.shape[dim] for x in tensors]
    shape = [*first.shape[:dim], sum(lengths), *first.shape[dim + 1 :]]
    out = _core.empty(shape, first.dtype, first.device)

    def places(array: _core.Array) -> Iterator[_core.Array]:
        start = 0
        for length in lengths:
            yield array.slice(dim, start, start + length, 1)
            start += length

    for x, place in zip(tensors, places(out), strict=True):
        _core.copy(x._array, place)
    result = Tensor(out)
    if wants_grad(*tensors):
        record("cat", result, tuple(tensors), lambda dy: tuple(places(dy)))
    return result


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, laid side by side along a new dimension.

    Raises: as `cat`.
    """
    if len(tensors) == 0:
        raise ValueError("stack: at least one tensor is expected, got an empty list")
    for index, x in enumerate(tensors):
        if x.shape != tensors[0].shape:
            raise ValueError(
                f"stack: tensor {index} has shape {x.shape}, expected {tensors[0].shape} as tensor 0 has"
            )
    return cat([unsqueeze(x, dim) for x in tensors], dim)


def _iterate(x: Tensor) -> Iterator[Tensor]:
    if x.ndim == 0:
        raise TypeError("a tensor without dimensions cannot be iterated over")
    return iter(unbind(x))


_METHODS: dict[str, Any] = {
    "reshape": reshape,
    "view": view,
    "flatten": flatten,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "permute": permute,
    "transpose": transpose,
    "mT": property(matrix_transpose),
    "T": property(_matrix_transpose_of_2d),
    "expand": expand,
    "broadcast_to": broadcast_to,
    "repeat": repeat,
    "split": split,
    "chunk": chunk,
    "unbind": unbind,
    "__iter__": _iterate,
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
