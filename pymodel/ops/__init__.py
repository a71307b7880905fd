"""Functional operations; names and arguments follow torch.nn.functional and flash-attention."""

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
]
