"""The keys and values of past tokens, so that each new token costs one token's work."""

from __future__ import annotations

import numpy as np

from pymodel import _core
from pymodel.tensor import Tensor


class KeyValueCache:
    """Keys and values of every layer, in memory that is set aside once and filled in place.

    Row b of the batch holds `lengths[b]` tokens, packed from the left: rows of unequal length need
    no padding between a prompt and what follows it. When the memory is full it doubles.

    Args:
        layers: number of attention layers.
        batch: rows.
        heads, head_dim: extents of one token's keys; values have the same.
        capacity: tokens to set aside for at first.
        dtype, device: of keys and values.

    Source: Pope et al., "Efficiently Scaling Transformer Inference", arXiv:2211.05102, section 3.
    """

    def __init__(
        self, layers: int, batch: int, heads: int, head_dim: int, capacity: int, dtype: str, device: str
    ) -> None:
        self.lengths = np.zeros(batch, dtype=np.int64)
        shape = [batch, max(1, capacity), heads, head_dim]
        self._keys = [_core.empty(shape, dtype, device) for _ in range(layers)]
        self._values = [_core.empty(shape, dtype, device) for _ in range(layers)]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens that each row holds, (batch,) int64; replaced as a whole, never changed in place."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: np.ndarray) -> None:
        # Every layer of every step asks for these two.
        self._lengths = lengths
        self._longest = int(lengths.max(initial=0))
        self._uniform = bool((lengths == self._longest).all())

    @property
    def batch(self) -> int:
        """Rows."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Tokens per row that fit without growing."""
        return int(self._keys[0].shape[1])

    def get_seq_length(self) -> int:
        """Tokens in the longest row."""
        return self._longest

    @property
    def uniform(self) -> bool:
        """Whether all rows hold the same number of tokens."""
        return self._uniform

    def reserve(self, tokens: int) -> None:
        """Makes room for that many tokens per row, at least doubling when memory has to move."""
        if tokens <= self.capacity:
            return
        used = self.get_seq_length()
        for store in (self._keys, self._values):
            for layer, old in enumerate(store):
                batch, capacity, heads, head_dim = old.shape
                grown = _core.empty(
                    [batch, max(tokens, 2 * capacity), heads, head_dim], old.dtype, old.device
                )
                if used:
                    _core.copy(old.slice(1, 0, used, 1), grown.slice(1, 0, used, 1))
                store[layer] = grown

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes a layer's new keys and values, (batch, tokens, heads, head_dim), behind what each
        row holds and returns views of all of them, (batch, longest + tokens, heads, head_dim).

        The lengths stay as they are until `advance`, since every layer appends at the same place.
        """
        past, tokens = self._longest, keys.shape[1]
        self.reserve(past + tokens)
        views = []
        for store, new in ((self._keys[layer], keys._array), (self._values[layer], values._array)):
            if self._uniform:
                _core.copy(new, store.slice(1, past, past + tokens, 1))
            else:
                for row, start in enumerate(self._lengths.tolist()):
                    _core.copy(new.select(0, row), store.select(0, row).slice(0, start, start + tokens, 1))
            views.append(Tensor(store.slice(1, 0, past + tokens, 1)))
        return views[0], views[1]

    def advance(self, tokens: int | np.ndarray) -> None:
        """Counts tokens that all layers appended: one number, or one per row where some of what was
        appended is padding. Zero for a row forgets what it got; the next append overwrites it."""
        self.lengths = self.lengths + tokens
