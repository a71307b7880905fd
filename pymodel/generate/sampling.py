"""Choosing the next token from processed logits."""

from __future__ import annotations

import numpy as np

from pymodel.generate.processors import softmax
from pymodel.random import next_offset


def choose_greedy(logits: np.ndarray) -> np.ndarray:
    """The most likely token of every row, the first of equals."""
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


class Sampler:
    """Draws tokens with numbers that depend on the seed, the sample and the position alone.

    Row b draws with the number at (seed, sample[b], step), so a prompt gives the same text whatever
    else is in its batch, and several samples of one prompt differ.

    Args:
        seed: 0 to 2^64 - 1, or None to take the next one of pymodel's generator.
        samples: (batch,) which sample of its prompt each row is.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (NumPy's Philox).
    """

    def __init__(self, seed: int | None, samples: np.ndarray) -> None:
        if seed is None:
            state, offset = next_offset()
            seed = int(np.random.SeedSequence([state, offset]).generate_state(1, np.uint64)[0])
        self._key = int(seed) & 0xFFFFFFFFFFFFFFFF
        self._samples = samples
        self._step = 0

    def choose(self, logits: np.ndarray) -> np.ndarray:
        """One token per row of (batch, vocab_size) logits: the inverse of their distribution at a
        uniform number."""
        numbers = self._numbers()
        cumulative = np.cumsum(softmax(logits.astype(np.float64)), axis=1)
        # Below the total even after rounding, so that a token is always found; side="right" passes
        # over tokens of probability 0, at which the sum does not move.
        targets = np.minimum(numbers * cumulative[:, -1], np.nextafter(cumulative[:, -1], 0.0))
        pairs = zip(cumulative, targets, strict=True)
        return np.array([np.searchsorted(row, target, side="right") for row, target in pairs], dtype=np.int64)

    def _numbers(self) -> np.ndarray:
        draws = {
            int(sample): np.random.Generator(
                np.random.Philox(key=self._key, counter=[0, 0, self._step, int(sample)])
            ).random()
            for sample in np.unique(self._samples)
        }
        self._step += 1
        return np.array([draws[int(sample)] for sample in self._samples], dtype=np.float64)
