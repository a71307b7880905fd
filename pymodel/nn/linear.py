"""Affine layers, with weights (out, in) or, as GPT-2 has them, (in, out)."""

from __future__ import annotations

from pymodel import ops
from pymodel.nn import init
from pymodel.nn.module import Module
from pymodel.nn.parameter import Parameter
from pymodel.tensor import Tensor, empty


class Linear(Module):
    """An affine map of the last dimension.

    y = f(x weight^T + bias) + residual

    Args:
        in_features: extent of x's last dimension.
        out_features: that of y's.
        bias: whether there is one.
        activation: f, by the names of `ops.linear`, computed inside the product; None for none.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.

    Attributes:
        weight: (out_features, in_features), uniform within 1 / sqrt(in_features) at first.
        bias: (out_features,), the same, or None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str | None = None,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.activation = activation
        self.weight = Parameter(empty((out_features, in_features), dtype, device))
        self.bias = Parameter(empty((out_features,), dtype, device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        bound = max(1, self.in_features) ** -0.5
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Takes x (..., in_features) and optionally a residual like the result, (..., out_features)."""
        return ops.linear(x, self.weight, self.bias, self.activation, residual=residual)

    def extra_repr(self) -> str:
        activation = f", activation={self.activation!r}" if self.activation else ""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}{activation}"


class Conv1D(Module):
    """`Linear` with its weight stored (in, out), as in GPT-2's checkpoints.

    y = x weight + bias + residual

    Args:
        out_features: extent of y's last dimension; it comes first, as in transformers' class.
        in_features: that of x's.
        bias: whether there is one.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.

    Attributes:
        weight: (in_features, out_features), normal with deviation 0.02 at first.
        bias: (out_features,), zeros at first, or None.
    """

    def __init__(
        self,
        out_features: int,
        in_features: int,
        bias: bool = True,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        self.out_features, self.in_features = out_features, in_features
        self.weight = Parameter(empty((in_features, out_features), dtype, device))
        self.bias = Parameter(empty((out_features,), dtype, device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.normal_(self.weight, std=0.02)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Takes x (..., in_features) and optionally a residual like the result, (..., out_features)."""
        return ops.linear(x, self.weight, self.bias, residual=residual, transposed=True)

    def extra_repr(self) -> str:
        return f"{self.out_features}, {self.in_features}, bias={self.bias is not None}"
