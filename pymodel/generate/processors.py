"""What happens to the logits before a token is drawn, on (batch, vocab_size) float32 arrays.

Each function changes its array in place; a token that may not be drawn gets -inf. They apply in
the order in which transformers has them: repetition penalty, repeated n-grams, bad words, minimum
length, forced tokens, temperature, top-k, top-p, min-p, renormalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymodel.generate.options import GenerationOptions


def process_logits(
    logits: np.ndarray,
    seen: Sequence[np.ndarray],
    generated: int,
    options: GenerationOptions,
    last: np.ndarray | None = None,
) -> None:
    """Applies everything that the options ask for.

    Args:
        logits: (batch, vocab_size) float32, changed in place; log probabilities with beams.
        seen: the tokens of every row so far, prompt included.
        generated: how many of them are new.
        last: (batch,) bool, the rows that have room for one more token only; None for none.
    """
    if options.repetition_penalty != 1.0:
        penalise_repetition(logits, seen, options.repetition_penalty)
    if options.no_repeat_ngram_size:
        forbid_repeated_ngrams(logits, seen, options.no_repeat_ngram_size)
    if options.bad_words:
        forbid_words(logits, seen, options.bad_words)
    if generated < options.min_new_tokens:
        forbid(logits, options.end_ids)
    for row, tokens in zip(logits, seen, strict=True):
        if len(tokens) < options.min_length:
            forbid(row[None], options.end_ids)
    if options.forced_bos_token_id is not None:
        force(logits, [len(row) == 1 for row in seen], (options.forced_bos_token_id,))
    if options.forced_end_ids and last is not None:
        force(logits, last, options.forced_end_ids)
    if options.do_sample:
        warp(logits, options)
    if options.renormalize_logits:
        log_softmax(logits)


def warp(logits: np.ndarray, options: GenerationOptions) -> None:
    """Applies what only sampling asks for."""
    # Of each beam's tokens one at least that is no end has to be left.
    least = len(options.end_ids) + 1 if options.num_beams > 1 else 1
    if options.temperature != 1.0:
        logits /= np.float32(options.temperature)
    if options.top_k:
        keep_top_k(logits, max(options.top_k, least))
    if options.top_p < 1.0:
        keep_top_p(logits, options.top_p, least)
    if options.min_p > 0.0:
        keep_min_p(logits, options.min_p, least)


def penalise_repetition(logits: np.ndarray, seen: Sequence[np.ndarray], penalty: float) -> None:
    """Divides the positive logits of tokens already there by the penalty and multiplies the others.

    Source: Keskar et al., "CTRL", arXiv:1909.05858, section 4.1.
    """
    for row, tokens in zip(logits, seen, strict=True):
        scores = row[tokens]
        row[tokens] = np.where(scores < 0, scores * np.float32(penalty), scores / np.float32(penalty))


def forbid_repeated_ngrams(logits: np.ndarray, seen: Sequence[np.ndarray], size: int) -> None:
    """Makes every token impossible that would complete a run of `size` tokens which is already there.

    Source: Paulus, Xiong and Socher, arXiv:1705.04304, section 2.5.
    """
    for row, tokens in zip(logits, seen, strict=True):
        if len(tokens) < size:
            continue
        runs = np.lib.stride_tricks.sliding_window_view(tokens, size)
        begun = tokens[len(tokens) - size + 1 :]
        row[runs[(runs[:, :-1] == begun).all(axis=1), -1]] = -np.inf


def forbid_words(logits: np.ndarray, seen: Sequence[np.ndarray], words: Sequence[tuple[int, ...]]) -> None:
    """Makes the last token of a word impossible where the ones before it stand already; words with ids
    beyond the vocabulary are impossible already."""
    words = [word for word in words if word[-1] < logits.shape[1]]
    forbid(logits, [word[0] for word in words if len(word) == 1])
    for *begin, end in (word for word in words if len(word) > 1):
        for row, tokens in zip(logits, seen, strict=True):
            if tokens[-len(begin) :].tolist() == begin:
                row[end] = -np.inf


def force(logits: np.ndarray, rows: Sequence[bool] | np.ndarray, tokens: Sequence[int]) -> None:
    """Leaves nothing but these tokens, equally likely, in the rows that are marked."""
    marked = np.asarray(rows, dtype=bool)
    logits[marked] = -np.inf
    for token in tokens:
        logits[marked, token] = 0.0


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


def keep_top_p(logits: np.ndarray, p: float, least: int = 1) -> None:
    """Keeps the smallest set of most likely tokens, `least` at least, whose probabilities sum to at
    least p.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
    """
    for row in logits:
        # Sorting what earlier steps left is much less than the vocabulary; the order within equal
        # logits is by token id.
        candidates = np.flatnonzero(row > -np.inf)
        order = candidates[np.argsort(row[candidates], kind="stable")]
        tail = np.cumsum(softmax(row[order]))
        removed = tail <= np.float32(1.0 - p)
        removed[-least:] = False
        row[order[removed]] = -np.inf


def keep_min_p(logits: np.ndarray, p: float, least: int = 1) -> None:
    """Keeps the tokens at least p times as likely as the most likely one, and the `least` most likely.

    Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.
    """
    probabilities = softmax(logits)
    removed = probabilities < np.float32(p) * probabilities.max(axis=1, keepdims=True)
    if least > 1:
        best = np.argpartition(-logits, min(least, logits.shape[1]) - 1, axis=1)[:, :least]
        np.put_along_axis(removed, best, False, axis=1)
    logits[removed] = -np.inf


def log_softmax(logits: np.ndarray) -> None:
    """Turns logits into log probabilities; a row of nothing but -inf stays so."""
    weights = np.empty(logits.shape[1], dtype=logits.dtype)
    for row in logits:  # one at a time, so that it stays in the processor's cache
        largest = row.max()
        if largest > -np.inf:
            row -= largest
            row -= np.log(np.exp(row, out=weights).sum())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last dimension."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
