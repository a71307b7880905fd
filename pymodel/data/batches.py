"""Batches for language modelling: windows of a token stream, in an order that can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from pymodel.data.tokens import TokenFile
from pymodel.errors import CheckpointError, ConfigError, DataError

Batch: TypeAlias = "dict[str, np.ndarray[Any, np.dtype[np.int64]]]"
Tokens: TypeAlias = "TokenFile | np.ndarray[Any, Any]"

IGNORED_LABEL = -100


class LanguageModelBatches:
    """An iterator over batches of windows, epoch after epoch.

    A window is T tokens and gives T - 1 predictions (the model shifts the labels), so windows follow each
    other at a stride of T - 1: window i of an epoch begins at `phase + i (T - 1)`, and between the first
    window and the last each token is predicted exactly once. The phase, drawn anew each epoch, moves the
    window borders; fewer than 2 T tokens at the two ends of the stream sit out an epoch, other ones each
    time.

    Order and phase come from Philox keyed on (seed, epoch), so that any position is found again without
    replaying what went before. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

    Args:
        tokens: a `TokenFile` or a one-dimensional integer array.
        batch_size: windows in a batch, B, on this rank.
        seq_len: tokens in a window, T, at least 2.
        seed: 0 or more.
        shuffle: False gives the windows in order, without a phase.
        drop_last: leave out the windows of an epoch that do not fill a batch.
        epochs: how often to go through the tokens; None goes on for ever.
        rank: this process among `world_size`; each global batch of B * world_size windows is dealt out in
            equal, disjoint parts.
        world_size: how many processes share the work.

    Yields:
        `input_ids` and `labels`, (B, T) int64, equal but not the same memory.

    Raises:
        ConfigError: a number that cannot be, or drop_last=False with several ranks (they would get unequal
            parts, and wait for each other for ever).
        DataError: the tokens do not fill one window, or one batch when the last is dropped.
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        seq_len: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        epochs: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check_sizes(batch_size, seq_len)
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"seed: expected 0 to 2^64 - 1, got {seed}")
        if epochs is not None and epochs < 0:
            raise ConfigError(f"epochs: expected 0 or more, or None for no end, got {epochs}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: expected 0 to world_size - 1 with world_size {world_size}, got {rank}")
        if world_size > 1 and not drop_last:
            raise ConfigError(
                "drop_last: expected True with several ranks, got False; the rest cannot be shared evenly"
            )
        self._tokens = _checked_tokens(tokens, seq_len)
        self.batch_size, self.seq_len, self.seed = batch_size, seq_len, seed
        self.shuffle, self.drop_last, self.epochs = shuffle, drop_last, epochs
        self._global_batch = batch_size * world_size
        self._offset = batch_size * rank
        self.window_count, self._longest_phase = self._plan()
        if len(self) == 0:
            needed = self._global_batch * (seq_len - 1) + 1 + (seq_len - 2 if shuffle else 0)
            raise DataError(
                f"the corpus has {len(self._tokens)} tokens, {self.window_count} windows of {seq_len}, fewer "
                f"than the {self._global_batch} of one batch; add {needed - len(self._tokens)} tokens of "
                "text, or lower batch_size or seq_len"
            )
        self._epoch = self._batch = 0
        self._order_epoch = -1

    def _plan(self) -> tuple[int, int]:
        """Windows in an epoch, the same in each, and the longest phase that still leaves room for them."""
        stride, count = self.seq_len - 1, len(self._tokens)
        if not self.shuffle:
            return (count - 1) // stride, 0
        windows = max(1, (count - 1 - (stride - 1)) // stride)
        return windows, min(stride - 1, count - 1 - windows * stride)

    def __len__(self) -> int:
        """Batches in one epoch, on this rank."""
        whole, rest = divmod(self.window_count, self._global_batch)
        return whole if self.drop_last or rest == 0 else whole + 1

    @property
    def epoch(self) -> int:
        """The epoch of the batch that comes next, from 0."""
        return self._epoch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.epochs is not None and self._epoch >= self.epochs:
            raise StopIteration
        if self._order_epoch != self._epoch:
            self._draw_order()
        first = self._batch * self._global_batch + self._offset
        windows = self._order[first : first + self.batch_size]
        starts = self._phase + windows * (self.seq_len - 1)
        self._batch += 1
        if self._batch == len(self):
            self._epoch, self._batch = self._epoch + 1, 0
        input_ids = np.stack([self._tokens[start : start + self.seq_len] for start in starts]).astype(
            np.int64
        )
        return {"input_ids": input_ids, "labels": input_ids.copy()}

    def _draw_order(self) -> None:
        self._order_epoch = self._epoch
        if not self.shuffle:
            self._phase, self._order = 0, np.arange(self.window_count)
            return
        # Raw Philox output and a stable sort: NumPy may change what its Generator methods draw from one
        # version to the next, and a resumed run would then see other batches.
        philox = np.random.Philox(key=np.array([self.seed, self._epoch], np.uint64))
        draws = philox.random_raw(1 + self.window_count)
        self._phase = int(draws[0]) % (self._longest_phase + 1)
        self._order = np.argsort(draws[1:], kind="stable")

    def state_dict(self) -> dict[str, int | bool]:
        """Where the next batch is, in plain numbers; the same on every rank."""
        return {"epoch": self._epoch, "batch": self._batch} | self._conditions()

    def load_state_dict(self, state: dict[str, int | bool]) -> None:
        """Go to where `state_dict` was taken: the batches from here on are the same bits.

        Ranks may have been regrouped as long as batch_size * world_size is the same.

        Raises:
            CheckpointError: the state is of other data or settings, or not of this class.
        """
        for name, value in self._conditions().items():
            if state.get(name) != value:
                raise CheckpointError(
                    f"data position: the checkpoint has {name} {state.get(name)!r}, this run has {value!r}; "
                    "resume with the same data and settings or start anew"
                )
        epoch: Any = state.get("epoch", -1)
        batch: Any = state.get("batch", -1)
        if not (isinstance(epoch, int) and epoch >= 0 and isinstance(batch, int) and 0 <= batch < len(self)):
            raise CheckpointError(
                f"data position: expected an epoch and a batch below {len(self)}, got {epoch!r} and "
                f"{batch!r}; the checkpoint is damaged, use an earlier one"
            )
        self._epoch, self._batch = epoch, batch

    def _conditions(self) -> dict[str, int | bool]:
        """Everything that decides which windows come in which batch."""
        return {
            "token_count": len(self._tokens),
            "seq_len": self.seq_len,
            "global_batch_size": self._global_batch,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }


def evaluation_windows(tokens: Tokens, batch_size: int, seq_len: int) -> Iterator[Batch]:
    """All tokens in order, each but the first predicted exactly once.

    Args:
        tokens: N ids, a `TokenFile` or a one-dimensional integer array.
        batch_size: windows in a batch, B; the last batch may have fewer.
        seq_len: tokens in a window, T, at least 2. A stream shorter than that is one padded window.

    Returns:
        An iterator of `input_ids` and `labels`, (B, T) int64. The last window is filled up with id 0 and
        label -100; `(labels[:, 1:] != -100).sum()` over all the batches is N - 1.

    Raises:
        ConfigError: batch_size or seq_len is too small.
        DataError: fewer than two tokens.
    """
    _check_sizes(batch_size, seq_len)
    array = _checked_tokens(tokens, 2)
    return _windows_in_order(array, batch_size, seq_len)


def _windows_in_order(array: np.ndarray[Any, Any], batch_size: int, seq_len: int) -> Iterator[Batch]:
    stride = seq_len - 1
    starts = range(0, len(array) - 1, stride)
    for first in range(0, len(starts), batch_size):
        rows = starts[first : first + batch_size]
        input_ids = np.zeros((len(rows), seq_len), np.int64)
        labels = np.full((len(rows), seq_len), IGNORED_LABEL, np.int64)
        for row, start in enumerate(rows):
            window = array[start : start + seq_len]
            input_ids[row, : len(window)] = window
            labels[row, : len(window)] = window
        yield {"input_ids": input_ids, "labels": labels}


def _check_sizes(batch_size: int, seq_len: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected 1 or more, got {batch_size}")
    if seq_len < 2:
        raise ConfigError(f"seq_len: expected 2 or more (one token to read, one to predict), got {seq_len}")


def _checked_tokens(tokens: Tokens, least: int) -> np.ndarray[Any, Any]:
    array = tokens.tokens if isinstance(tokens, TokenFile) else np.asarray(tokens)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"tokens: expected a one-dimensional integer array, got {array.ndim} dimension(s) of "
            f"{array.dtype.name}"
        )
    if len(array) < least:
        raise DataError(
            f"the corpus has {len(array)} tokens, a window takes {least}; add {least - len(array)} tokens of "
            "text or lower seq_len"
        )
    return array
