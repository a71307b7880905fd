"""Modules: layers with parameters, and what holds them together."""

from pymodel.nn import init
from pymodel.nn.activations import GELU, ReLU, Sigmoid, SiLU, Tanh
from pymodel.nn.attention import MultiHeadAttention
from pymodel.nn.containers import ModuleList, Sequential
from pymodel.nn.dropout import Dropout
from pymodel.nn.embedding import Embedding
from pymodel.nn.linear import Conv1D, Linear
from pymodel.nn.losses import CrossEntropyLoss, LinearCrossEntropyLoss
from pymodel.nn.module import LoadResult, Module
from pymodel.nn.norm import LayerNorm, RMSNorm
from pymodel.nn.packing import packed_weights, weights_changed
from pymodel.nn.parameter import Parameter

__all__ = [
    "GELU",
    "Conv1D",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "LayerNorm",
    "Linear",
    "LinearCrossEntropyLoss",
    "LoadResult",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "init",
    "packed_weights",
    "weights_changed",
]
