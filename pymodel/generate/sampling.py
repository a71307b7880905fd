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

    A row draws with the number at (seed, sample, step), so a prompt gives the same text whatever
    else is in its batch, and several samples of one prompt differ.

    Args:
        seed: 0 to 2^64 - 1, or None to take the next one of pymodel's generator.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (NumPy's Philox).
    """

    def __init__(self, seed: int | None) -> None:
        self._key = _key(seed)
        self._step = 0

    def choose(self, logits: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """One token per row of (batch, vocab_size) logits: the inverse of their distribution at a
        uniform number. `samples` says which sample of its prompt each row is, (batch,)."""
        draws = {int(s): _generator(self._key, self._step, int(s)).random() for s in np.unique(samples)}
        self._step += 1
        numbers = np.array([draws[int(sample)] for sample in samples], dtype=np.float64)
        cumulative = np.cumsum(softmax(logits.astype(np.float64)), axis=1)
        # Below the total even after rounding, so that a token is always found; side="right" passes
        # over tokens of probability 0, at which the sum does not move.
        targets = np.minimum(numbers * cumulative[:, -1], np.nextafter(cumulative[:, -1], 0.0))
        pairs = zip(cumulative, targets, strict=True)
        return np.array([np.searchsorted(row, target, side="right") for row, target in pairs], dtype=np.int64)


class CandidateSampler:
    """Draws several candidates without putting them back, for beams; as `Sampler`, with the numbers at
    (seed, step).

    Args:
        seed: as for `Sampler`.

    Source: Kool, van Hoof and Welling, "Stochastic Beams and Where to Find Them", arXiv:1903.06059:
    the largest of the log probabilities, each with Gumbel noise added, are such a draw.
    """

    def __init__(self, seed: int | None) -> None:
        self._key = _key(seed)

    def draw(self, log_probabilities: np.ndarray, count: int, step: int) -> np.ndarray:
        """Indices of up to `count` of (n,) log probabilities, in the order of the draw; none of
        probability 0."""
        possible = np.flatnonzero(log_probabilities > -np.inf)
        noise = _generator(self._key, step, 0).gumbel(size=len(possible))
        return possible[np.argsort(-(log_probabilities[possible] + noise), kind="stable")[:count]]


def _key(seed: int | None) -> int:
    if seed is None:
        state, offset = next_offset()
        seed = int(np.random.SeedSequence([state, offset]).generate_state(1, np.uint64)[0])
    return int(seed) & 0xFFFFFFFFFFFFFFFF


def _generator(key: int, step: int, sample: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, step, sample]))
