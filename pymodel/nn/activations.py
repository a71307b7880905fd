"""Activations as layers."""

from __future__ import annotations

from pymodel import ops
from pymodel.nn.module import Module
from pymodel.tensor import Tensor


class GELU(Module):
    """x times the normal distribution function of x.

    Args:
        approximate: "none" for the exact function, "tanh" for the approximation GPT-2 uses.

    Raises: ValueError for another name.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: approximate must be "none" or "tanh", got {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (...)."""
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (...)."""
        return ops.relu(x)


class SiLU(Module):
    """x / (1 + exp(-x)), also called swish."""

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (...)."""
        return ops.silu(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (...)."""
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (...)."""
        return ops.sigmoid(x)
