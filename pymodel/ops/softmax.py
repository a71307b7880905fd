"""Softmax and its logarithm along any dimension."""

from __future__ import annotations

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.ops.arrays import contiguous, rows
from pymodel.tensor import Tensor


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exponentials along a dimension, divided by their sum.

    y = exp(x - max(x)) / sum(exp(x - max(x)))

    A slice that is all -inf has no distribution: it gives zeros with zero gradient, never NaN.

    Args:
        x: float32, float16 or bfloat16 of any shape; exponentials and sums are float32.
        dim: the dimension that sums to 1; negative counts from the end.

    Returns: a tensor of x's shape and dtype.

    Raises: IndexError for a dimension that x does not have, TypeError for other dtypes.

    Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867.
    """
    return _softmax("softmax", x, dim, logarithm=False)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """The logarithm of `softmax`, without its underflow.

    y = x - max(x) - log(sum(exp(x - max(x))))

    A slice that is all -inf stays so, the logarithm of the zeros of `softmax`, with zero gradient.

    Args, Returns, Raises: as `softmax`.
    """
    return _softmax("log_softmax", x, dim, logarithm=True)


def _softmax(name: str, x: Tensor, dim: int, logarithm: bool) -> Tensor:
    axis = _axis(name, x.ndim, dim)
    slices = _slices(x._array, axis)
    y = slices.empty_like()
    _core.softmax_forward(slices, y, logarithm)
    shape = x.shape
    result = Tensor(y.reshape(shape))
    if wants_grad(x):

        def backward(dy: _core.Array) -> _core.Array:
            dx = y.empty_like()
            _core.softmax_backward(_slices(dy, axis), y, dx, logarithm)
            return dx.reshape(shape)

        record(name, result, (x,), backward)
    return result


def _axis(name: str, ndim: int, dim: int) -> int:
    extent = max(ndim, 1)  # a scalar is a slice of one
    if not -extent <= dim < extent:
        raise IndexError(
            f"{name}: dim must lie between {-extent} and {extent - 1} for x with {ndim} dimensions, got {dim}"
        )
    return dim % extent


def _slices(array: _core.Array, axis: int) -> _core.Array:
    """(..., classes, ...) seen as (outer, classes, inner), copied only where it has to be."""
    if array.ndim == 0:
        return array.reshape([1, 1, 1])
    if axis == array.ndim - 1:
        return rows(array).unsqueeze(2)
    shape = array.shape
    outer = inner = 1
    for extent in shape[:axis]:
        outer *= extent
    for extent in shape[axis + 1 :]:
        inner *= extent
    return contiguous(array).reshape([outer, shape[axis], inner])
