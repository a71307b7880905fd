"""Positions as sines and cosines, which need no training.

Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.5.
"""

from __future__ import annotations

import numpy as np

from pymodel import nn, ops
from pymodel.tensor import Tensor, tensor


def sinusoids(count: int, width: int) -> np.ndarray:
    """PE[pos, 2i] = sin(pos / 10000^(2i / width)) and PE[pos, 2i + 1] = cos of the same, (count, width)
    float64."""
    column = np.arange(width)
    angles = np.arange(count)[:, None] / 10000.0 ** (2 * (column // 2) / width)
    return np.where(column % 2 == 0, np.sin(angles), np.cos(angles))


class SinusoidalPositions(nn.Module):
    """A fixed vector for each position.

    Args:
        table: (count, width), such as `sinusoids` makes.
        dtype, device: of the copy that is kept; checkpoints do not hold it.
    """

    weight: Tensor

    def __init__(self, table: np.ndarray, dtype: str = "float32", device: str | None = None) -> None:
        values = tensor(np.ascontiguousarray(table, dtype=np.float32), dtype=dtype, device=device)
        self.register_buffer("weight", values, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Takes positions (...), from 0; returns (..., width)."""
        return ops.embedding(positions, self.weight)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))
