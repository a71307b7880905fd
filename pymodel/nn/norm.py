"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from pymodel import ops
from pymodel.nn import init
from pymodel.nn.module import Module
from pymodel.nn.parameter import Parameter
from pymodel.tensor import Tensor, empty


class LayerNorm(Module):
    """Normalises the last dimension to mean 0 and variance 1, then scales and shifts it.

    Args:
        normalized_shape: extent of the last dimension.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias at all.
        bias: whether there is a bias beside the weight.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.

    Attributes:
        weight: (normalized_shape,), ones at first, or None.
        bias: (normalized_shape,), zeros at first, or None.
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        shape, with_bias = (normalized_shape,), elementwise_affine and bias
        self.weight = Parameter(empty(shape, dtype, device)) if elementwise_affine else None
        self.bias = Parameter(empty(shape, dtype, device)) if with_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to ones and zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Takes x (..., normalized_shape); with a residual like x returns (y, x + residual)."""
        _check_width("LayerNorm", x, self.normalized_shape)
        if residual is None:
            return ops.layer_norm(x, self.weight, self.bias, self.eps)
        return ops.layer_norm(x, self.weight, self.bias, self.eps, residual=residual)

    def extra_repr(self) -> str:
        affine = f", elementwise_affine={self.weight is not None}" if self.weight is None else ""
        bias = ", bias=False" if self.weight is not None and self.bias is None else ""
        return f"{self.normalized_shape}, eps={self.eps}{affine}{bias}"


class RMSNorm(Module):
    """Divides the last dimension by its root mean square, then scales it; Llama's normalisation.

    Args:
        normalized_shape: extent of the last dimension.
        eps: added to the mean square.
        elementwise_affine: whether there is a weight.
        dtype: of the weight: float32, float16 or bfloat16.
        device: where it lives.

    Attributes:
        weight: (normalized_shape,), ones at first, or None.
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-6,
        elementwise_affine: bool = True,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight = Parameter(empty((normalized_shape,), dtype, device)) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to ones."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Takes x (..., normalized_shape); with a residual like x returns (y, x + residual)."""
        _check_width("RMSNorm", x, self.normalized_shape)
        if residual is None:
            return ops.rms_norm(x, self.weight, self.eps)
        return ops.rms_norm(x, self.weight, self.eps, residual=residual)

    def extra_repr(self) -> str:
        affine = ", elementwise_affine=False" if self.weight is None else ""
        return f"{self.normalized_shape}, eps={self.eps}{affine}"


def _check_width(layer: str, x: Tensor, width: int) -> None:
    """Without a weight the op cannot know the width that was meant."""
    shape = x._array.shape
    if not shape or shape[-1] != width:
        raise ValueError(f"{layer}: x must have a last dimension of {width}, got shape {shape}")
