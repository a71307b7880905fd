"""Rows of tokens that grow, and the prompts from which they start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymodel.models.inputs import token_ids

_ROOM = 64  # tokens to set aside for at first, beside the longest prompt


class Sequences:
    """Rows of tokens: a prompt each, then what was generated.

    Args:
        prompts: token ids of every row.
        limits: (rows,) the length at which each row is full.

    Attributes: `lengths` and `prompt_lengths`, (rows,) int64.
    """

    def __init__(self, prompts: Sequence[np.ndarray], limits: np.ndarray) -> None:
        self.prompt_lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        self.lengths = self.prompt_lengths.copy()
        self.limits = np.asarray(limits, dtype=np.int64)
        width = int(self.lengths.max(initial=0)) + _ROOM
        self._tokens = np.zeros((len(prompts), width), dtype=np.int64)
        for row, prompt in zip(self._tokens, prompts, strict=True):
            row[: len(prompt)] = prompt

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> list[np.ndarray]:
        """The tokens of every row so far."""
        return [row[:length] for row, length in zip(self._tokens, self.lengths, strict=True)]

    @property
    def full(self) -> np.ndarray:
        """Whether each row is at its limit, (rows,) bool."""
        return self.lengths >= self.limits

    def window(self, starts: np.ndarray, width: int) -> np.ndarray:
        """The tokens of every row from a place of its own on, (rows, width); zeros beyond the memory."""
        places = starts[:, None] + np.arange(width)
        within = places < self._tokens.shape[1]
        found = np.take_along_axis(self._tokens, np.where(within, places, 0), axis=1)
        return np.where(within, found, 0)

    def append(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        """Adds one token to each of these rows."""
        if self.lengths.max(initial=0) == self._tokens.shape[1]:
            self._tokens = np.pad(self._tokens, ((0, 0), (0, self._tokens.shape[1])))
        self._tokens[rows, self.lengths[rows]] = tokens
        self.lengths[rows] += 1

    def picked(self, rows: np.ndarray) -> Sequences:
        """A copy that holds these rows, in this order."""
        copy = object.__new__(Sequences)
        copy.prompt_lengths = self.prompt_lengths[rows]
        copy.lengths = self.lengths[rows]
        copy.limits = self.limits[rows]
        copy._tokens = self._tokens[rows]
        return copy

    def common(self, others: np.ndarray) -> np.ndarray:
        """How many tokens row b and row `others[b]` have in common at their beginning, for as many rows as
        there are."""
        others = others[: len(self)]
        lengths = np.minimum(self.lengths[: len(others)], self.lengths[others])
        differing = self._tokens[: len(others)] != self._tokens[others]
        first = np.where(differing.any(axis=1), differing.argmax(axis=1), lengths)
        return np.asarray(np.minimum(first, lengths))


def settled(parents: np.ndarray) -> np.ndarray:
    """An order of rows to be, each the child of a row that is, in which as many as can be take the
    place of their parent: the cache then has the fewest rows to copy, and none that is read after
    it was overwritten.

    Args:
        parents: (rows to be,) the row from which each goes on.

    Returns: (rows to be,) indices into parents.
    """
    order = np.full(len(parents), -1, dtype=np.int64)
    homeless = []
    for child, parent in enumerate(parents.tolist()):
        if parent < len(order) and order[parent] < 0:
            order[parent] = child
        else:
            homeless.append(child)
    order[order < 0] = homeless
    return order


def prompts_of(input_ids: Any, attention_mask: Any, vocab_size: int) -> list[np.ndarray]:
    """The tokens of every prompt, without the padding that the mask names.

    Args:
        input_ids: (batch, sequence) integers, or a list of lists of unequal length.
        attention_mask: (batch, sequence), 0 where there is padding, or None.

    Raises: as `models.inputs.token_ids`; ValueError for a mask of another shape.
    """
    listed = attention_mask is None and isinstance(input_ids, (list, tuple))
    if listed and all(np.ndim(row) == 1 for row in input_ids):
        return [token_ids([row], vocab_size)[0] for row in input_ids]
    ids = token_ids(input_ids, vocab_size)
    if attention_mask is None:
        return list(ids)
    mask = np.asarray(attention_mask).astype(bool)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask must have the shape {ids.shape} of input_ids, got {mask.shape}")
    return [row[kept] for row, kept in zip(ids, mask, strict=True)]


def padded(rows: Sequence[np.ndarray], padding: int, on_left: bool = False) -> np.ndarray:
    """Rows of unequal length as one array of (rows, longest)."""
    width = max((len(row) for row in rows), default=0)
    array = np.full((len(rows), width), padding, dtype=np.int64)
    for target, row in zip(array, rows, strict=True):
        start = width - len(row) if on_left else 0
        target[start : start + len(row)] = row
    return array
