"""Functional operations; names and arguments follow torch.nn.functional and flash-attention."""

from pymodel.ops import methods  # noqa: F401 - attaches arithmetic to Tensor
from pymodel.ops.activation import gelu, relu, sigmoid, silu, tanh
from pymodel.ops.elementwise import (
    abs,
    add,
    cast,
    clamp,
    clone,
    contiguous,
    cos,
    div,
    erf,
    exp,
    log,
    masked_fill,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    reciprocal,
    rsqrt,
    sin,
    sqrt,
    square,
    sub,
    where,
)
from pymodel.ops.layer_norm import layer_norm
from pymodel.ops.linear import linear, mlp
from pymodel.ops.matmul import matmul
from pymodel.ops.reduce import all, all_finite, any, argmax, argmin, max, mean, min, sum, var

__all__ = [
    "abs",
    "add",
    "all",
    "all_finite",
    "any",
    "argmax",
    "argmin",
    "cast",
    "clamp",
    "clone",
    "contiguous",
    "cos",
    "div",
    "erf",
    "exp",
    "gelu",
    "layer_norm",
    "linear",
    "log",
    "masked_fill",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mlp",
    "mul",
    "neg",
    "pow",
    "reciprocal",
    "relu",
    "rsqrt",
    "sigmoid",
    "silu",
    "sin",
    "sqrt",
    "square",
    "sub",
    "sum",
    "tanh",
    "var",
    "where",
from pymodel.ops.cross_entropy import cross_entropy
from pymodel.ops.dropout import dropout
from pymodel.ops.embedding import embedding
from pymodel.ops.layer_norm import layer_norm
from pymodel.ops.linear import linear, mlp
from pymodel.ops.matmul import matmul
from pymodel.ops.random import normal_, rand, randn, uniform_
from pymodel.ops.softmax import log_softmax, softmax

__all__ = [
    "cross_entropy",
    "dropout",
    "embedding",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "mlp",
    "normal_",
    "rand",
    "randn",
    "softmax",
    "uniform_",
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
