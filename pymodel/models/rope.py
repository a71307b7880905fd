"""Rotary positions: the tables of cosines and sines that `ops.rotary` turns the tokens of a call by."""

from __future__ import annotations

import dataclasses

import numpy as np

from pymodel import ops
from pymodel.errors import ConfigError
from pymodel.models.rope_scaling import FOLLOWING_LENGTH, RopeParameters, frequencies
from pymodel.tensor import Tensor, tensor


@dataclasses.dataclass
class Rotation:
    """What `ops.rotary` takes for the tokens of one call.

    cos, sin: (rows, rotary_dim / 2) float32.
    rows: (batch, sequence) int64, the row of each token, or None where token i has row i.
    """

    cos: Tensor
    sin: Tensor
    rows: Tensor | None = None

    def turn(self, x: Tensor) -> Tensor:
        """Turns fresh heads, (batch, sequence, heads, head_dim), in place."""
        return ops.rotary(x, self.cos, self.sin, self.rows, inplace=True)


class RotaryPositions:
    """Turns positions into the tables that `ops.rotary` reads.

    Angles, and their cosines and sines, are computed in float64 and rounded once: in float32 an angle at
    position 100000 would be off by up to 0.004.

    Args:
        parameters: of the angles.
        head_dim: width of a head, of which `partial_rotary_factor` is turned.
        context: the model's max_position_embeddings.

    Raises: ConfigError for parameters that do not fit the head.
    """

    def __init__(self, parameters: RopeParameters, head_dim: int, context: int) -> None:
        self.parameters, self.context = parameters, context
        self._width = int(head_dim * parameters.partial_rotary_factor)
        if self._width < 1 or self._width + self._width % 2 > head_dim:
            raise ConfigError(
                f"rotary positions turn pairs of elements: {self._width} of a head's {head_dim} cannot be "
                "paired; set head_dim to an even number"
            )
        if parameters.rope_type == "dynamic" and self._width <= 2:
            raise ConfigError("rope_scaling: 'dynamic' needs heads of more than one pair of elements")
        frequencies(parameters, self._width, context, context)  # which checks its factors

    def __call__(self, positions: np.ndarray, counts: np.ndarray | int, device: str) -> Rotation:
        """The angles of the tokens of one call.

        Args:
            positions: (sequence,), or (batch, sequence) where rows differ.
            counts: how many tokens of every row are no padding on the right, (batch,) or one for all.
            device: where the tables go.
        """
        lengths = self._lengths(positions, counts)
        if (lengths == lengths[:1]).all():
            length = int(lengths.max(initial=0))
            known, rows = np.unique(positions, return_inverse=True)
            in_order = positions.ndim == 1 and known.size == positions.size
            tables = self._tables(positions if in_order else known, length)
            index = None if in_order else tensor(rows.reshape(positions.shape), device=device)
        else:
            every = np.broadcast_to(positions, (lengths.size, positions.shape[-1]))
            pairs = [self._tables(row, int(length)) for row, length in zip(every, lengths, strict=True)]
            tables = tuple(np.concatenate(parts) for parts in zip(*pairs, strict=True))
            index = tensor(np.arange(every.size).reshape(every.shape), device=device)
        cos, sin = (tensor(table, device=device) for table in tables)
        return Rotation(cos, sin, index)

    def _lengths(self, positions: np.ndarray, counts: np.ndarray | int) -> np.ndarray:
        """The length of every row's text, (batch,) or (1,), where the angles depend on it: each row of a
        batch is turned as it would be alone."""
        if self.parameters.rope_type not in FOLLOWING_LENGTH:
            return np.zeros(1, dtype=np.int64)
        real = np.arange(positions.shape[-1]) < np.reshape(counts, (-1, 1))
        last: np.ndarray = np.where(real, positions, -1).max(axis=-1, initial=-1)
        return last + 1

    def _tables(self, positions: np.ndarray, length: int) -> tuple[np.ndarray, ...]:
        speeds, factor = frequencies(self.parameters, self._width, self.context, length)
        angles = positions[:, None] * speeds
        return tuple((function(angles) * factor).astype(np.float32) for function in (np.cos, np.sin))
