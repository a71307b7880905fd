"""Functional operations; names and arguments follow torch.nn.functional and flash-attention."""

from pymodel.ops import indexing  # noqa: F401 - attaches x[...]
from pymodel.ops.layer_norm import layer_norm
from pymodel.ops.linear import linear, mlp
from pymodel.ops.matmul import matmul
from pymodel.ops.shape import (
    broadcast_to,
    cat,
    chunk,
    expand,
    flatten,
    permute,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
    unbind,
    unsqueeze,
)

__all__ = [
    "broadcast_to",
    "cat",
    "chunk",
    "expand",
    "flatten",
    "layer_norm",
    "linear",
    "matmul",
    "mlp",
    "permute",
    "repeat",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "transpose",
    "unbind",
    "unsqueeze",
]
