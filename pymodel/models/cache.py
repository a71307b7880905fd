"""The keys and values of past tokens, so that each new token costs one token's work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymodel import _core
from pymodel.tensor import Tensor


class KeyValueCache:
    """Keys and values of every layer, in memory that is set aside once and filled in place.

    Row b of the batch holds `lengths[b]` tokens, packed from the left: rows of unequal length need
    no padding between a prompt and what follows it. When the memory is full it doubles. Of an
    encoder-decoder it also holds what the decoder sees of the source, `cross`.

    Args:
        layers: number of attention layers.
        batch: rows.
        heads, head_dim: extents of one token's keys.
        capacity: tokens to set aside for at first.
        dtype, device: of keys and values.
        value_dim: extent of a head's values, where it is not that of its keys.

    Source: Pope et al., "Efficiently Scaling Transformer Inference", arXiv:2211.05102, section 3.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        capacity: int,
        dtype: str,
        device: str,
        value_dim: int | None = None,
    ) -> None:
        self.lengths = np.zeros(batch, dtype=np.int64)
        # More rows than the batch has may be set aside: those that `reorder` dropped.
        shape = [batch, max(1, capacity), heads]
        self._keys = [_core.empty([*shape, head_dim], dtype, device) for _ in range(layers)]
        self._values = [_core.empty([*shape, value_dim or head_dim], dtype, device) for _ in range(layers)]
        self._cross: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._sources = np.arange(batch)  # rows of one source share a number

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
        self._tokens: list[np.ndarray] | None = None

    @property
    def tokens(self) -> list[np.ndarray] | None:
        """The token ids that each row holds, where whoever filled the cache noted them; None after
        any change of the rows."""
        return self._tokens

    def note_tokens(self, tokens: Sequence[np.ndarray]) -> None:
        """Notes which tokens the rows hold, so that a later call can tell what it need not read again."""
        self._tokens = [np.array(row, dtype=np.int64) for row in tokens]

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
        if tokens > self.capacity:
            self._move(self._keys[0].shape[0], max(tokens, 2 * self.capacity), np.arange(self.batch))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes a layer's new keys and values, (batch, tokens, heads, head_dim), behind what each
        row holds and returns views of all of them, (batch, longest + tokens, heads, head_dim).

        The lengths stay as they are until `advance`, since every layer appends at the same place.
        """
        past, tokens = self._longest, keys.shape[1]
        self.reserve(past + tokens)
        views = []
        for store, new in ((self._keys[layer], keys._array), (self._values[layer], values._array)):
            used = store.slice(0, 0, self.batch, 1).slice(1, 0, past + tokens, 1)
            if self._uniform:
                _core.copy(new, used.slice(1, past, past + tokens, 1))
            else:
                for row, start in enumerate(self._lengths.tolist()):
                    _core.copy(new.select(0, row), used.select(0, row).slice(0, start, start + tokens, 1))
            views.append(Tensor(used))
        return views[0], views[1]

    def advance(self, tokens: int | np.ndarray) -> None:
        """Counts tokens that all layers appended: one number, or one per row where some of what was
        appended is padding. Zero for a row forgets what it got; the next append overwrites it."""
        self.lengths = self.lengths + tokens

    def crop(self, length: int | np.ndarray) -> None:
        """Forgets the tokens of each row beyond a length: one number, or one per row."""
        lengths = np.minimum(self._lengths, length)
        if (lengths != self._lengths).any():
            self.lengths = lengths

    def cross(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """A layer's keys and values of the source, (batch, source, heads, head_dim), or None."""
        return self._cross[layer]

    def set_cross(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keeps a layer's keys and values of the source, (batch, source, heads, head_dim)."""
        self._cross[layer] = (keys, values)

    def reorder(self, rows: np.ndarray, shared: np.ndarray | None = None) -> None:
        """Lets row b become a copy of what row `rows[b]` was; rows may be dropped and repeated.

        Args:
            rows: (new batch,) integers, each a row of the present batch.
            shared: (new batch,) how many tokens the old row b has in common with row rows[b], which
                need not be copied; 0 for rows beyond the present batch. None for none.

        Raises: IndexError for a row that is not there.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not (int(rows.min()) >= 0 and int(rows.max()) < self.batch):
            raise IndexError(f"rows must lie between 0 and {self.batch - 1}, got {rows.tolist()}")
        if len(rows) > self._keys[0].shape[0]:
            self._move(len(rows), self.capacity, rows)
        else:
            self._copy_rows(rows, np.zeros_like(rows) if shared is None else shared)
        sources = self._sources[rows]
        if not np.array_equal(sources, self._sources):
            # Beams of one source change places without this: to them it is the same.
            for layer, pair in enumerate(self._cross):
                if pair is not None:
                    self._cross[layer] = (picked_rows(pair[0], rows), picked_rows(pair[1], rows))
        self._sources = sources
        self.lengths = self._lengths[rows]

    def _copy_rows(self, rows: np.ndarray, shared: np.ndarray) -> None:
        """Copies the rows that change within the memory that is there."""
        moves = [
            (target, source, int(shared[target]), int(self._lengths[source]))
            for target, source in enumerate(rows.tolist())
            if target != source
        ]
        moves = [(target, source, start, end) for target, source, start, end in moves if start < end]
        overwritten = {target for target, *_ in moves}
        crossing = any(source in overwritten for _, source, *_ in moves)
        for store in (*self._keys, *self._values):
            pieces = [store.select(0, source).slice(0, start, end, 1) for _, source, start, end in moves]
            if crossing:  # a row is both read and overwritten
                pieces = [_copied(piece) for piece in pieces]
            for piece, (target, _, start, end) in zip(pieces, moves, strict=True):
                _core.copy(piece, store.select(0, target).slice(0, start, end, 1))

    def _move(self, batch: int, capacity: int, rows: np.ndarray) -> None:
        """Sets new memory aside, its rows filled from these."""
        for store in (self._keys, self._values):
            for layer, old in enumerate(store):
                new = _core.empty([batch, capacity, *old.shape[2:]], old.dtype, old.device)
                for target, source in enumerate(rows.tolist()):
                    used = int(self._lengths[source])
                    if used:
                        piece = old.select(0, source).slice(0, 0, used, 1)
                        _core.copy(piece, new.select(0, target).slice(0, 0, used, 1))
                store[layer] = new


def checked_cache(value: Any) -> KeyValueCache | None:
    """What was given as past_key_values, a cache or None.

    Raises: TypeError for anything else, such as a cache of transformers.
    """
    if value is None or isinstance(value, KeyValueCache):
        return value
    raise TypeError(
        "past_key_values must be a KeyValueCache of pymodel, new from model.new_cache(batch) or what an "
        f"earlier call returned, got {type(value).__module__}.{type(value).__qualname__}"
    )


def picked_rows(values: Tensor, rows: np.ndarray) -> Tensor:
    """Rows of a batch, (new batch, ...), each a copy of row `rows[b]` of values."""
    old = values._array
    new = _core.empty([len(rows), *old.shape[1:]], old.dtype, old.device)
    for target, source in enumerate(rows.tolist()):
        _core.copy(old.select(0, source), new.select(0, target))
    return Tensor(new)


def _copied(array: _core.Array) -> _core.Array:
    copy = _core.empty(list(array.shape), array.dtype, array.device)
    _core.copy(array, copy)
    return copy
