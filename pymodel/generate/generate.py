"""Continuing prompts with a language model."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymodel.errors import ConfigError
from pymodel.generate.decoding import NO_TOKEN, Decoding, prompts_of
from pymodel.generate.streaming import Streamer, TextPieces, options_of


def generate(
    model: Any,
    input_ids: Any,
    max_new_tokens: int = 64,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 1.0,
    seed: int | None = None,
    *,
    attention_mask: Any = None,
    tokenizer: Any = None,
    streamer: Streamer | None = None,
    **options: Any,
) -> np.ndarray:
    """Continues a batch of prompts.

    Each prompt gets the tokens it would get alone: by greedy choice the same ones, and by sampling
    those that the seed draws for any prompt in that place.

    Args:
        model: a language model such as `GPT2LMHeadModel`.
        input_ids: (batch, sequence) integers, or a list of lists of unequal length.
        max_new_tokens, do_sample, temperature, top_k, top_p, seed, and in `options` min_p,
            repetition_penalty, stop_strings, eos_token_id, min_new_tokens, use_cache and
            num_return_sequences: see `GenerationOptions`. Without sampling, temperature, top_k,
            top_p, min_p and seed have no effect.
        attention_mask: (batch, sequence), 0 where a prompt is padded, on either side.
        tokenizer: needed to find stop_strings.
        streamer: takes the tokens of a single prompt as they come, such as `TextStreamer`.

    Returns: (batch * num_return_sequences, sequence + new) int64: the prompts as they were given
    (lists of unequal length padded on the left), then the new tokens up to and including an end
    token or the one that completes a stop string, then padding.

    Raises: ConfigError for an option; PymodelError for a prompt that is empty or fills the model's
    context; ValueError or TypeError for ids that are no token ids of the model.
    """
    chosen = options_of(
        dict(
            options,
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
    )
    if chosen.stops and tokenizer is None:
        raise ConfigError("stop_strings are found in text: pass the model's tokenizer too, tokenizer=...")
    prompts = prompts_of(input_ids, attention_mask, model.config.vocab_size)
    decoding = Decoding(model, prompts, chosen)
    rows = len(prompts) * chosen.num_return_sequences
    if streamer is not None and rows != 1:
        raise ConfigError(f"streamer: expected one sequence to follow, got {rows}; pass one prompt")
    _run(decoding, [TextPieces(tokenizer, chosen.stops) for _ in range(rows) if chosen.stops], streamer)
    padding = _padding(model.config, decoding.options.end_ids)
    given = np.repeat(_as_given(input_ids, prompts, padding), chosen.num_return_sequences, axis=0)
    return np.concatenate([given, _padded(decoding.new_tokens, padding)], axis=1)


def _run(decoding: Decoding, texts: list[TextPieces], streamer: Streamer | None) -> None:
    """Decodes to the end, ends rows whose text reaches a stop string, and feeds the streamer."""
    if streamer is not None:
        streamer.start(decoding.tokens[0], decoding.options.stops)
    for tokens in decoding:
        for row in np.flatnonzero(tokens != NO_TOKEN).tolist():
            token = int(tokens[row])
            if texts:
                texts[row].push(token)
                if texts[row].stopped:
                    decoding.finish(row, "stop")
            if streamer is not None:
                streamer.put(token)
    if streamer is not None:
        streamer.end()


def _padding(config: Any, end_ids: tuple[int, ...]) -> int:
    if config.pad_token_id is not None:
        return int(config.pad_token_id)
    return end_ids[0] if end_ids else 0


def _as_given(input_ids: Any, prompts: list[np.ndarray], padding: int) -> np.ndarray:
    """The prompts as one array: as they came, or padded on the left."""
    ragged = isinstance(input_ids, (list, tuple)) and len({len(row) for row in input_ids}) > 1
    return _padded(prompts, padding, on_left=True) if ragged else np.asarray(input_ids).astype(np.int64)


def _padded(rows: list[np.ndarray], padding: int, on_left: bool = False) -> np.ndarray:
    width = max((len(row) for row in rows), default=0)
    array = np.full((len(rows), width), padding, dtype=np.int64)
    for target, row in zip(array, rows, strict=True):
        start = width - len(row) if on_left else 0
        target[start : start + len(row)] = row
    return array
