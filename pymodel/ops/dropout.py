"""Dropout, with an optional fused residual addition."""

from __future__ import annotations

from typing import Any

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.ops.arrays import flat
from pymodel.random import next_offset
from pymodel.tensor import Tensor


def dropout(x: Tensor, p: float = 0.5, training: bool = True, residual: Tensor | None = None) -> Tensor:
    """Sets each element to zero with probability p and scales the others so that the mean stays.

    y = mask * x / (1 - p) + residual

    The mask is a pure function of the seed, the number of the random call and the element's index: it is
    the same for any strides, thread count and device, and backward draws it again instead of
    keeping it. Without dropping (training False or p = 0), x itself comes back, or x + residual.

    Args:
        x: float32, float16 or bfloat16 of any shape.
        p: the probability of dropping, in [0, 1]; 1 drops everything.
        training: whether to drop at all.
        residual: of x's shape and dtype, added in the same pass over memory.

    Returns: a tensor of x's shape and dtype.

    Raises: ValueError for p outside [0, 1] or a residual of another shape, TypeError for other dtypes.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 15, 2014.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p must lie between 0 and 1, got {p}")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"dropout: residual must have shape {x.shape} like x, got {residual.shape}")
    if residual is not None and residual.dtype != x.dtype:
        raise TypeError(
            f"dropout: residual must be {x.dtype} like x, got {residual.dtype}; "
            f'convert it with .to("{x.dtype}")'
        )
    if not training or p == 0.0:
        return x if residual is None else x + residual
    seed, offset = next_offset()
    shape, elements = x.shape, flat(x._array)
    y = elements.empty_like()
    _core.dropout(elements, None if residual is None else flat(residual._array), y, p, seed, offset)
    result = Tensor(y.reshape(shape))
    if wants_grad(x, residual):

        def backward(dy: _core.Array) -> tuple[Any, ...]:
            if not x.requires_grad:
                return None, dy
            incoming = flat(dy)
            dx = incoming.empty_like()
            _core.dropout(incoming, None, dx, p, seed, offset)
            return dx.reshape(shape), dy

        record("dropout", result, (x, residual), backward)
    return result
