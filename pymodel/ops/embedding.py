"""Rows of a table picked by integer indices."""

from __future__ import annotations

from typing import Any

from pymodel import _core
from pymodel.autograd import ACCUMULATED, accumulation_buffer, record, wants_grad
from pymodel.ops.arrays import element_name, flat, rows
from pymodel.tensor import Tensor


def embedding(indices: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of a table at the given indices.

    y[...] = weight[indices[...]]

    The gradient of the table is dense, summed in float32 in the order of the indices, and added to
    `weight.grad` in place where that exists, as with a table that the output layer shares.

    Args:
        indices: (...), int64, int32 or uint8, each from 0 to entries - 1.
        weight: (entries, columns); any dtype, but only floating ones have a gradient.
        padding_idx: an entry that gets no gradient; negative counts from the end.

    Returns: (..., columns) of weight's dtype.

    Raises: IndexError for an index that is no row of weight, naming it and its position; ValueError
        for shapes or a padding_idx that do not fit; TypeError for other dtypes. A GPU, which is not waited
        for, gives zeros for such an index, and the next call that waits raises.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must have shape (entries, columns), got {weight.shape}")
    entries, columns = weight.shape
    if padding_idx is not None and not -entries <= padding_idx < entries:
        raise ValueError(
            f"embedding: padding_idx must be a row of weight, 0 to {entries - 1}, got {padding_idx}"
        )
    picked, table = flat(indices._array), rows(weight._array)
    y = _core.empty([picked.numel, columns], weight.dtype, weight.device)
    invalid = _core.embedding_forward(picked, table, y)
    if invalid >= 0:
        name = element_name("indices", invalid, indices.shape)
        value = int(indices.numpy().reshape(-1)[invalid])
        raise IndexError(
            f"embedding: {name} is {value}, but weight has rows 0 to {entries - 1}; "
            "check that the indices and the table belong together"
        )
    result = Tensor(y.reshape((*indices.shape, columns)))
    if wants_grad(weight):
        padding = -1 if padding_idx is None else padding_idx % entries

        def backward(dy: _core.Array) -> Any:
            buffer = accumulation_buffer(weight)
            accumulate = buffer is not None
            dweight = buffer or _core.empty([entries, columns], weight.dtype, weight.device)
            _core.embedding_backward(picked, rows(dy), dweight, padding, accumulate)
            return ACCUMULATED if accumulate else dweight

        record("embedding", result, (weight,), backward)
    return result
