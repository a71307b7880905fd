"""Functional operations; names and arguments follow torch.nn.functional and flash-attention."""

from pymodel.ops.layer_norm import layer_norm

__all__ = ["layer_norm"]
