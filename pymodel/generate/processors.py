"""What happens to the logits before a token is drawn, on (batch, vocab_size) float32 arrays.

Each function changes its array in place; a token that may not be drawn gets -inf. They apply in
the order in which transformers has them: repetition penalty, minimum length, temperature, top-k,
top-p, min-p.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymodel.generate.options import GenerationOptions


def process_logits(
    logits: np.ndarray, seen: Sequence[np.ndarray], generated: int, options: GenerationOptions
) -> None:
    """Applies everything that the options ask for.

    Args:
        logits: (batch, vocab_size) float32, changed in place.
        seen: the tokens of every row so far, prompt included.
        generated: how many of them are new.
    """
    if options.repetition_penalty != 1.0:
        penalise_repetition(logits, seen, options.repetition_penalty)
    if generated < options.min_new_tokens:
        forbid(logits, options.end_ids)
    if not options.do_sample:
        return
    if options.temperature != 1.0:
        logits /= np.float32(options.temperature)
    if options.top_k:
        keep_top_k(logits, options.top_k)
    if options.top_p < 1.0:
        keep_top_p(logits, options.top_p)
    if options.min_p > 0.0:
        keep_min_p(logits, options.min_p)


def penalise_repetition(logits: np.ndarray, seen: Sequence[np.ndarray], penalty: float) -> None:
    """Divides the positive logits of tokens already there by the penalty and multiplies the others.

    Source: Keskar et al., "CTRL", arXiv:1909.05858, section 4.1.
    """
    for row, tokens in zip(logits, seen, strict=True):
        scores = row[tokens]
        row[tokens] = np.where(scores < 0, scores * np.float32(penalty), scores / np.float32(penalty))


def forbid(logits: np.ndarray, tokens: Sequence[int]) -> None:
    """Makes these tokens impossible; ids beyond the vocabulary are impossible already."""
    logits[:, [token for token in tokens if token < logits.shape[1]]] = -np.inf


def keep_top_k(logits: np.ndarray, k: int) -> None:
    """Keeps the k most likely tokens, and those equal to the last of them.

    Source: Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation", arXiv:1805.04833.
    """
    vocabulary = logits.shape[1]
    if k < vocabulary:
        smallest_kept = np.partition(logits, vocabulary - k, axis=1)[:, vocabulary - k, None]
        logits[logits < smallest_kept] = -np.inf


def keep_top_p(logits: np.ndarray, p: float) -> None:
    """Keeps the smallest set of most likely tokens whose probabilities sum to at least p.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
    """
    for row in logits:
        # Sorting what earlier steps left is much less than the vocabulary; the order within equal
        # logits is by token id.
        candidates = np.flatnonzero(row > -np.inf)
        order = candidates[np.argsort(row[candidates], kind="stable")]
        tail = np.cumsum(softmax(row[order]))
        removed = tail <= np.float32(1.0 - p)
        removed[-1:] = False
        row[order[removed]] = -np.inf


def keep_min_p(logits: np.ndarray, p: float) -> None:
    """Keeps the tokens at least p times as likely as the most likely one.

    Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.
    """
    probabilities = softmax(logits)
    logits[probabilities < np.float32(p) * probabilities.max(axis=1, keepdims=True)] = -np.inf


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last dimension."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
