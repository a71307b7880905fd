"""Beam search: the best continuations of each prompt, followed side by side.

Scores, rules for stopping and the choice of candidates are those of transformers 5.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pymodel.generate.options import GenerationOptions
from pymodel.generate.predictors import Predictor
from pymodel.generate.processors import log_softmax, process_logits
from pymodel.generate.sampling import CandidateSampler
from pymodel.generate.sequences import Sequences, settled

_GROUP = 64  # values of which `largest` takes the maximum


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A continuation that has ended: prompt and new tokens, and its score (see `length_penalty`)."""

    tokens: np.ndarray
    score: float


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Tokens that might come next, best first or as they were drawn, each (candidates,).

    beams: which of the open beams each continues; tokens: with what; scores: log probability of all its
    new tokens, float32.
    """

    beams: np.ndarray
    tokens: np.ndarray
    scores: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Candidates:
        return Candidates(self.beams[chosen], self.tokens[chosen], self.scores[chosen])


class BeamsOfPrompt:
    """The beams of one prompt: those that are open, and the best that have ended.

    Args:
        row: where the prompt stands in the batch.
        limit: the most tokens it may get.
        options: what to do; `num_beams`, `length_penalty` and `early_stopping` matter here.

    Attributes: `rows`, where the open beams stand in the batch, best first, and their `scores`; `ended`, at
    most `num_beams` hypotheses, best first; `done`.

    Source: Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, section 7, but
    for the length penalty, which is a plain power here.
    """

    def __init__(self, row: int, limit: int, options: GenerationOptions) -> None:
        self.rows = np.array([row], dtype=np.int64)
        self.scores = np.zeros(1, dtype=np.float32)
        self.ended: list[Hypothesis] = []
        self.done = limit == 0
        self._limit = limit
        self._options = options

    def step(self, candidates: Candidates, tokens: list[np.ndarray], generated: int) -> Candidates:
        """Takes the candidates of a step and returns those that stay open.

        Args:
            candidates: best first, or as they were drawn.
            tokens: of every open beam so far.
            generated: how many of them are new.
        """
        beams = self._options.num_beams
        ends = np.isin(candidates.tokens, self._options.end_ids) | (generated + 1 == self._limit)
        # Only the first ones may end; the others are there so that enough stay open.
        for index in np.flatnonzero(ends[:beams]).tolist():
            whole = np.append(tokens[candidates.beams[index]], candidates.tokens[index])
            self._end(whole, candidates.scores[index], generated + 1)
        open_ones = np.flatnonzero(~ends)
        best_first = np.argsort(-candidates.scores[open_ones], kind="stable")
        chosen = candidates[open_ones[best_first[:beams]]]
        if not len(candidates.tokens):
            # Every token is forbidden, so what is there is all there will be.
            for whole, score in zip(tokens, self.scores, strict=True):
                self._end(whole, score, generated)
        self.scores = chosen.scores
        self.ended = sorted(self.ended, key=lambda ended: -ended.score)[:beams]
        self.done = self._is_done(generated + 1)
        return chosen

    def _end(self, tokens: np.ndarray, score: np.float32, generated: int) -> None:
        self.ended.append(Hypothesis(tokens, float(self._penalised(score, generated))))

    def _penalised(self, score: np.float32, generated: int) -> np.float32:
        with np.errstate(over="ignore", divide="ignore"):  # of absurd penalties, which leave 0 or -inf
            divisor = np.float32(np.float64(max(1, generated)) ** self._options.length_penalty)
            return np.float32(score / divisor)

    def _is_done(self, generated: int) -> bool:
        options = self._options
        if not len(self.scores):
            return True
        if len(self.ended) < options.num_beams:
            return False
        if options.early_stopping is True:
            return True
        # A positive penalty favours length: what the best open beam may come to is decided at the end.
        at_the_end = options.early_stopping == "never" and options.length_penalty > 0.0
        hoped_for = self._penalised(self.scores[0], self._limit if at_the_end else generated)
        return bool(hoped_for <= self.ended[-1].score)


class BeamSearch:
    """Follows the best continuations of every prompt to their end.

    Args:
        predictor: what the model says follows; its rows are the prompts.
        prompts: one row for each.
        options: what to do.
    """

    def __init__(self, predictor: Predictor, prompts: Sequences, options: GenerationOptions) -> None:
        self._predictor = predictor
        self._options = options
        self._rows = prompts
        self._owners = np.arange(len(prompts))  # the prompt of every row
        room = prompts.limits - prompts.lengths
        self._beams = [BeamsOfPrompt(row, int(limit), options) for row, limit in enumerate(room)]
        self._prompts = prompts.tokens
        self._sampler = CandidateSampler(options.seed) if options.do_sample else None

    def run(self) -> list[list[Hypothesis]]:
        """Returns, for every prompt, its `num_return_sequences` best continuations, best first; the last of
        them again where there are fewer."""
        generated = 0
        while not all(beams.done for beams in self._beams):
            self._step(generated)
            generated += 1
        wanted = self._options.num_return_sequences
        found = [
            beams.ended or [Hypothesis(prompt, 0.0)]
            for beams, prompt in zip(self._beams, self._prompts, strict=True)
        ]
        return [(ended + ended[-1:] * wanted)[:wanted] for ended in found]

    def _step(self, generated: int) -> None:
        rows, options = self._rows, self._options
        seen = rows.tokens
        logits = self._predictor.logits(rows)
        log_softmax(logits)
        process_logits(logits, seen, generated, options, rows.lengths + 1 == rows.limits)
        parents, tokens, owners = [], [], []
        for owner, beams in enumerate(self._beams):
            if beams.done:
                continue
            totals = logits[beams.rows]
            totals += beams.scores[:, None]
            found = self._candidates(totals, generated)
            kept = beams.step(found, [seen[row] for row in beams.rows], generated)
            if not beams.done:
                parents.append(beams.rows[kept.beams])
                tokens.append(kept.tokens)
                owners.append(np.full(len(kept.tokens), owner))
        if parents:
            self._continue(np.concatenate(parents), np.concatenate(tokens), np.concatenate(owners))

    def _candidates(self, totals: np.ndarray, step: int) -> Candidates:
        """The candidates among (beams, vocab_size) log probabilities of whole continuations: so many that
        `num_beams` are left to go on where all end tokens of the others are among them."""
        count = self._options.num_beams * max(2, 1 + len(self._options.end_ids))
        flat = totals.reshape(-1)
        if self._sampler is None:
            places = largest(flat, count)
        else:
            places = self._sampler.draw(flat, count, step)
        return Candidates(*np.divmod(places, totals.shape[1]), flat[places])

    def _continue(self, parents: np.ndarray, tokens: np.ndarray, owners: np.ndarray) -> None:
        """Makes one row of each child; rows of prompts that are done leave the batch."""
        order = settled(parents)
        parents = parents[order]
        present = min(len(parents), len(self._rows))
        related = self._owners[:present] == self._owners[parents[:present]]
        shared = np.zeros_like(parents)
        shared[:present] = np.where(related, self._rows.common(parents), 0)
        self._predictor.reorder(parents, shared)
        self._rows = self._rows.picked(parents)
        self._rows.append(np.arange(len(parents)), tokens[order])
        self._owners = owners[order]
        row_of = np.argsort(order)  # of every child, best first within its prompt
        for owner in np.unique(owners).tolist():
            self._beams[owner].rows = row_of[owners == owner]


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values above -inf, largest first, the first of equals first.

    Args:
        values: (n,) float32.
        count: how many; fewer come back where there are no more.
    """
    # Every `groups`-th value is in one group. The count-th largest maximum of the groups bounds the
    # count-th largest value from below; finding it and comparing are two fast passes, and what they
    # leave to sort is little.
    groups = len(values) // _GROUP
    maxima = values[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0) if groups else values[:0]
    bound = -np.inf
    if len(maxima) > count:
        bound = np.partition(maxima, len(maxima) - count)[len(maxima) - count]
    places = np.flatnonzero(values >= bound if bound > -np.inf else values > -np.inf)
    return places[np.argsort(-values[places], kind="stable")[:count]]
