"""The loop that continues a batch of prompts token by token, greedily or by sampling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pymodel.errors import PymodelError
from pymodel.generate.options import GenerationOptions
from pymodel.generate.predictors import Predictor
from pymodel.generate.processors import process_logits
from pymodel.generate.sampling import Sampler, choose_greedy
from pymodel.generate.sequences import Sequences, settled

NO_TOKEN = -1  # in place of a token of a row that has finished


class Decoding:
    """A batch of prompts being continued; iterating over it yields the new tokens of each step.

    A step is an int64 array of (rows,), with NO_TOKEN for rows that had finished before. Each row
    gets what it would get alone.

    Args:
        predictor: what the model says follows; its rows are the prompts.
        prompts: one row for each; `num_return_sequences` rows go on from it.
        options: what to do.

    Attributes: `sequences`, all rows so far; `finish_reasons`, for every row None while it goes on,
    then "stop" (an end token or a stop string) or "length" (no room for more).
    """

    def __init__(self, predictor: Predictor, prompts: Sequences, options: GenerationOptions) -> None:
        self._predictor = predictor
        self._prompts = prompts
        self._options = options
        copies = options.num_return_sequences
        self._prompt_of = np.repeat(np.arange(len(prompts)), copies)
        self._samples = np.tile(np.arange(copies), len(prompts))
        self._sampler = Sampler(options.seed) if options.do_sample else None
        self.sequences = prompts.picked(self._prompt_of)
        self.finish_reasons: list[str | None] = ["length" if full else None for full in self.sequences.full]
        self._present = np.arange(len(self.sequences))  # the row that each row of the predictor is

    @property
    def new_tokens(self) -> list[np.ndarray]:
        """The new tokens of every row."""
        rows = self.sequences
        return [row[start:] for row, start in zip(rows.tokens, rows.prompt_lengths, strict=True)]

    def finish(self, row: int, reason: str) -> None:
        """Ends a row; its last token stays."""
        self.finish_reasons[row] = reason

    def __iter__(self) -> Iterator[np.ndarray]:
        generated = 0
        try:
            while None in self.finish_reasons:
                yield self._step(generated)
                generated += 1
        finally:
            self._predictor.close(self.sequences)

    def _step(self, generated: int) -> np.ndarray:
        logits = self._first_logits() if generated == 0 else self._next_logits()
        active = self._active()
        taken = self._present[active]
        if not active.all():  # rows that ended and had to stay
            logits = logits[active]
        rows = self._rows(taken)
        process_logits(logits, rows.tokens, generated, self._options, rows.lengths + 1 == rows.limits)
        if np.isneginf(logits.max(axis=1)).any():
            raise PymodelError(
                "generate: every token is forbidden; give bad_words_ids, no_repeat_ngram_size or "
                "min_new_tokens less to forbid"
            )
        if self._sampler is None:
            chosen = choose_greedy(logits)
        else:
            chosen = self._sampler.choose(logits, self._samples[taken])
        self.sequences.append(taken, chosen)
        for row, token in zip(taken.tolist(), chosen.tolist(), strict=True):
            if token in self._options.end_ids:
                self.finish_reasons[row] = "stop"
            elif self.sequences.full[row]:
                self.finish_reasons[row] = "length"
        tokens = np.full(len(self.sequences), NO_TOKEN, dtype=np.int64)
        tokens[taken] = chosen
        return tokens

    def _first_logits(self) -> np.ndarray:
        """Reads each prompt once, however many rows go on from it."""
        logits = self._predictor.logits(self._prompts)
        if len(self._prompt_of) != len(self._prompts):
            self._predictor.reorder(self._prompt_of)
        return logits[self._prompt_of]

    def _next_logits(self) -> np.ndarray:
        active = self._active()
        if not (active.all() or self._predictor.keeps_rows):
            places = np.flatnonzero(active)
            places = places[settled(places)]
            self._predictor.reorder(places)
            self._present = self._present[places]
        return self._predictor.logits(self._rows(self._present))

    def _active(self) -> np.ndarray:
        """Which of the predictor's rows go on, (present rows,) bool."""
        return np.array([self.finish_reasons[row] is None for row in self._present.tolist()], dtype=bool)

    def _rows(self, rows: np.ndarray) -> Sequences:
        """These rows in this order; without a copy where they are all, which they then are in order."""
        return self.sequences if len(rows) == len(self.sequences) else self.sequences.picked(rows)
