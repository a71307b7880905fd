"""Functional operations; names and arguments follow torch.nn.functional and flash-attention."""

from pymodel.ops.attention import attention, attention_dropout_mask, attention_qkvpacked
from pymodel.ops.layer_norm import layer_norm
from pymodel.ops.linear import linear, mlp
from pymodel.ops.matmul import matmul

__all__ = ["layer_norm", "linear", "matmul", "mlp"]
