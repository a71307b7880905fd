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
        rows = self._rows()
        process_logits(logits, rows.tokens, generated, self._options, rows.lengths + 1 == rows.limits)
        if np.isneginf(logits.max(axis=1)).any():
            raise PymodelError(
                "generate: every token is forbidden; give bad_words_ids, no_repeat_ngram_size or "
                "min_new_tokens less to forbid"
            )
        if self._sampler is None:
            chosen = choose_greedy(logits)
        else:
            chosen = self._sampler.choose(logits, self._samples[self._present])
        tokens = np.full(len(self.sequences), NO_TOKEN, dtype=np.int64)
        tokens[self._present] = chosen
        tokens[[reason is not None for reason in self.finish_reasons]] = NO_TOKEN
        taken = np.flatnonzero(tokens != NO_TOKEN)
        self.sequences.append(taken, tokens[taken])
        for row in taken.tolist():
            if int(tokens[row]) in self._options.end_ids:
                self.finish_reasons[row] = "stop"
            elif self.sequences.full[row]:
                self.finish_reasons[row] = "length"
        return tokens

    def _first_logits(self) -> np.ndarray:
        """Reads each prompt once, however many rows go on from it."""
        logits = self._predictor.logits(self._prompts)
        if len(self._prompt_of) != len(self._prompts):
            self._predictor.reorder(self._prompt_of)
        return logits[self._prompt_of]

    def _next_logits(self) -> np.ndarray:
        if not self._predictor.keeps_rows:
            going_on = [self.finish_reasons[row] is None for row in self._present.tolist()]
            if not all(going_on):
                places = np.flatnonzero(going_on)
                places = places[settled(places)]
                self._predictor.reorder(places)
                self._present = self._present[places]
        return self._predictor.logits(self._rows())

    def _rows(self) -> Sequences:
        """The rows that the predictor has, in its order."""
        everything = len(self._present) == len(self.sequences)
        return self.sequences if everything else self.sequences.picked(self._present)
