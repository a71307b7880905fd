"""Sums, means and extremes over any dimensions.

Floating sums run in float32 with their rounding errors summed beside them, in a partition that only
the shape decides: they are exact to about one rounding, with the same bits for any threads.

`dim` is one dimension, a tuple of them, or None for all; `keepdim` leaves extents of 1 behind.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence

from pymodel import _core
from pymodel.autograd import is_grad_enabled, record
from pymodel.ops.arrays import contiguous, converted
from pymodel.ops.elementwise import cast
from pymodel.tensor import Tensor

Dims = int | Sequence[int] | None

# From the gradient d of out in the kept shape, and x and out, the gradient of x.
_Gradient = Callable[[_core.Array, _core.Array, _core.Array], _core.Array]

_binary = _core.binary


def _dims(dim: Dims) -> list[int] | None:
    return dim if dim is None else [dim] if isinstance(dim, int) else list(dim)


def _kept_shape(shape: tuple[int, ...], dims: list[int] | None) -> list[int]:
    """The shape with extents of 1 along the reduced dimensions."""
    if dims is None:
        return [1] * len(shape)
    reduced = {d % len(shape) for d in dims}
    return [1 if d in reduced else extent for d, extent in enumerate(shape)]


def _reduce(name: str, x: Tensor, dim: Dims, keepdim: bool, gradient: _Gradient | None) -> Tensor:
    """Reduces, and records `gradient` where there is one."""
    dims, array = _dims(dim), x._array
    out = _core.reduce(name, array, None, dims, keepdim)
    result = Tensor(out)
    if gradient is not None and x.requires_grad and is_grad_enabled():
        shown = _kept_shape(x.shape, dims)

        def backward(d: _core.Array) -> _core.Array:
            return gradient(contiguous(d).reshape(shown), array, out.reshape(shown))

        record(name, result, (x,), backward)
    return result


# -- sums -------------------------------------------------------------------------------------------


def sum(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The sum over `dim`; int64 for integers and bool, else x's dtype."""
    shape = x.shape
    return _reduce("sum", x, dim, keepdim, lambda d, array, out: d.expand(shape))


def mean(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The arithmetic mean over `dim` of a floating tensor; NaN of no elements."""
    shape = x.shape

    def gradient(d: _core.Array, array: _core.Array, out: _core.Array) -> _core.Array:
        return _binary("div", d, array.numel / builtins.max(out.numel, 1)).expand(shape)

    return _reduce("mean", x, dim, keepdim, gradient)


def var(x: Tensor, dim: Dims = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The variance over `dim` of a floating tensor, in two passes.

    var = sum((x - mean(x))^2) / (n - correction)

    Raises: ValueError when there are not more than `correction` elements to each variance.
    """
    dims, array = _dims(dim), x._array
    kept = _kept_shape(x.shape, dims)
    center = _core.reduce("mean", array, _core.empty(kept, "float32", x.device), dims, keepdim=True)
    count = x.numel() // builtins.max(center.numel, 1)
    if count <= correction and center.numel > 0:
        raise ValueError(
            f"var: {count} elements are too few for correction={correction}; "
            "there must be more of them than that"
        )
    scale = count - correction
    out = _core.reduce(
        "squared_deviation", array, dims=dims, keepdim=keepdim, divisor=float(scale), center=center
    )
    result = Tensor(out)
    if x.requires_grad and is_grad_enabled():

        def backward(d: _core.Array) -> _core.Array:
            # In float32 throughout: a low-precision x loses its digits when the mean is taken off.
            weight = _binary("mul", converted(d.reshape(kept), "float32"), 2.0 / scale)
            deviation = _binary("sub", converted(array, "float32"), center)
            return converted(_binary("mul", deviation, weight), array.dtype)

        record("var", result, (x,), backward)
    return result


# -- extremes ---------------------------------------------------------------------------------------


def _share_among_ties(d: _core.Array, array: _core.Array, out: _core.Array) -> _core.Array:
    """The gradient goes to every element that equals the extreme, in equal parts."""
    chosen = _binary("eq", array, out)
    count = _core.sum_to_shape(converted(chosen, "float32"), out.shape)
    return _core.where(chosen, _binary("div", d, converted(count, d.dtype)), 0.0)


def max(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest element over `dim`, NaN where there is one; ties share the gradient.

    Returns the values alone, as NumPy and `torch.amax` do; `argmax` gives the positions.
    """
    return _reduce("max", x, dim, keepdim, _share_among_ties)


def min(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`, NaN where there is one; ties share the gradient."""
    return _reduce("min", x, dim, keepdim, _share_among_ties)


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element lies (int64): the first of equal ones, a NaN before all numbers.

    Args:
        x: any dtype.
        dim: the dimension to look along; None for the position in the flattened tensor.
        keepdim: leaves an extent of 1 behind.
    """
    return _position(x, dim, False, keepdim)


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest element lies; otherwise as `argmax`."""
    return _position(x, dim, True, keepdim)


def _position(x: Tensor, dim: int | None, smallest: bool, keepdim: bool) -> Tensor:
    if dim is not None:
        return Tensor(_core.argmax(x._array, dim, smallest, keepdim))
    flat = contiguous(x._array).reshape([x.numel()])
    found = _core.argmax(flat, 0, smallest, False)
    return Tensor(found.reshape([1] * x.ndim) if keepdim else found)


# -- truth ------------------------------------------------------------------------------------------


def any(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether some element over `dim` is not zero; False of no elements."""
    return _reduce("any", cast(x, "bool"), dim, keepdim, None)


def all(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether every element over `dim` is not zero; True of no elements."""
    return _reduce("all", cast(x, "bool"), dim, keepdim, None)


def all_finite(x: Tensor) -> bool:
    """Whether the tensor holds neither NaN nor infinity, in one pass over it."""
    return _core.all_finite(x._array)
