"""The loop that continues a batch of prompts token by token."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pymodel.autograd import no_grad
from pymodel.errors import PymodelError
from pymodel.generate.options import GenerationOptions
from pymodel.generate.processors import process_logits
from pymodel.generate.sampling import Sampler, choose_greedy
from pymodel.models.cache import KeyValueCache
from pymodel.models.inputs import token_ids

NO_TOKEN = -1  # in place of a token of a row that has finished


class Decoding:
    """A batch of prompts being continued; iterating over it yields the new tokens of each step.

    A step is an int64 array of (rows,), with NO_TOKEN for rows that had finished before. Rows of
    unequal length stand packed from the left in the cache, so each gets what it would get alone.

    Args:
        model: called as model(input_ids, attention_mask=, past_key_values=, logits_to_keep=), with
            `new_cache` and a config that has vocab_size and max_position_embeddings.
        prompts: token ids of every prompt; each is repeated `num_return_sequences` times.
        options: what to do.

    Attributes: `tokens` of every row so far; `finish_reasons`, for every row None while it goes on,
    then "stop" (an end token or a stop string) or "length" (max_new_tokens or the model's context).

    Raises: PymodelError for an empty prompt and for one that fills the model's context.
    """

    def __init__(self, model: Any, prompts: Sequence[np.ndarray], options: GenerationOptions) -> None:
        if options.eos_token_id is None:
            options = dataclasses.replace(options, eos_token_id=model.config.eos_token_id)
        self.options = options
        self._model = model
        self._context = int(model.config.max_position_embeddings)
        for number, prompt in enumerate(prompts):
            _check_prompt(prompt, number, len(prompts), self._context)
        copies = options.num_return_sequences
        self._rows = [prompt for prompt in prompts for _ in range(copies)]
        self._prompt_lengths = np.array([len(prompt) for prompt in self._rows], dtype=np.int64)
        self._lengths = self._prompt_lengths.copy()
        self._most = min(self._context, int(self._lengths.max(initial=0)) + options.max_new_tokens)
        self._tokens = np.zeros((len(self._rows), max(1, self._most)), dtype=np.int64)
        for row, prompt in zip(self._tokens, self._rows, strict=True):
            row[: len(prompt)] = prompt
        samples = np.tile(np.arange(copies), len(prompts))
        self._choose = Sampler(options.seed, samples).choose if options.do_sample else choose_greedy
        self.finish_reasons: list[str | None] = [None] * len(self._rows)

    @property
    def tokens(self) -> list[np.ndarray]:
        """Prompt and new tokens of every row."""
        return [row[:length] for row, length in zip(self._tokens, self._lengths, strict=True)]

    @property
    def new_tokens(self) -> list[np.ndarray]:
        """The new tokens of every row."""
        return [row[start:] for row, start in zip(self.tokens, self._prompt_lengths, strict=True)]

    def finish(self, row: int, reason: str) -> None:
        """Ends a row; its last token stays."""
        self.finish_reasons[row] = reason

    def __iter__(self) -> Iterator[np.ndarray]:
        cache: KeyValueCache | None = None
        for generated in range(self.options.max_new_tokens):
            active = np.array([reason is None for reason in self.finish_reasons], dtype=bool)
            if not active.any():
                return
            if generated == 0 and self.options.use_cache:
                cache = self._model.new_cache(len(self._rows), self._most)
            logits = self._next_logits(cache, first=generated == 0)
            process_logits(logits, self.tokens, generated, self.options)
            chosen = np.where(active, self._choose(logits), NO_TOKEN)
            for row in np.flatnonzero(active).tolist():
                self._take(row, int(chosen[row]))
            yield chosen

    def _take(self, row: int, token: int) -> None:
        self._tokens[row, self._lengths[row]] = token
        self._lengths[row] += 1
        if token in self.options.end_ids:
            self.finish_reasons[row] = "stop"
        elif (
            self._lengths[row] - self._prompt_lengths[row] == self.options.max_new_tokens
            or self._lengths[row] == self._context
        ):
            self.finish_reasons[row] = "length"

    def _next_logits(self, cache: KeyValueCache | None, first: bool) -> np.ndarray:
        """The logits that follow every row, (rows, vocab_size) float32."""
        with no_grad(), _evaluating(self._model):
            if cache is None or first:
                longest = int(self._lengths.max())
                output = self._model(
                    self._tokens[:, :longest],
                    attention_mask=np.arange(longest) < self._lengths[:, None],
                    past_key_values=cache,
                    logits_to_keep=self._lengths - 1,
                )
            else:
                last = np.take_along_axis(self._tokens, self._lengths[:, None] - 1, axis=1)
                output = self._model(last, past_key_values=cache)
                # Finished rows go along at no harm to the others; at the end of the context they
                # write the same place again and again.
                cache.advance(-(cache.lengths >= self._context).astype(np.int64))
        logits: np.ndarray = output.logits.numpy()[:, -1].astype(np.float32)
        if np.isnan(logits).any():
            raise PymodelError(
                "generate: the model's logits hold NaN; its weights are damaged or training diverged"
            )
        return logits


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


def _check_prompt(prompt: np.ndarray, number: int, count: int, context: int) -> None:
    which = "the prompt" if count == 1 else f"prompt {number}"
    if len(prompt) == 0:
        raise PymodelError(
            f"generate: {which} is empty; start with at least one token, such as the model's bos token"
        )
    if len(prompt) >= context:
        raise PymodelError(
            f"generate: {which} has {len(prompt)} tokens and the model's context holds {context}, "
            f"one at least for what is to come; pass its last {context - 1} tokens or fewer"
        )


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Without dropout, whatever mode the model is in."""
    if not model.training:
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
