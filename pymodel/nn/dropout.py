"""Dropout as a layer."""

from __future__ import annotations

from pymodel import ops
from pymodel.nn.module import Module
from pymodel.tensor import Tensor


class Dropout(Module):
    """Sets elements to zero at random while training and scales the others by 1 / (1 - p).

    Args:
        p: probability of dropping an element, in [0, 1].

    Raises: ValueError for p outside its range.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: p must lie between 0 and 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (...); in evaluation mode x itself."""
        return ops.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
