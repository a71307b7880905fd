"""Where generation starts: prompts checked, and the predictor that reads them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pymodel.errors import ConfigError, PymodelError
from pymodel.generate.options import DEFAULT_NEW_TOKENS, GenerationOptions
from pymodel.generate.predictors import DecoderPredictor, EncoderDecoderPredictor, Predictor
from pymodel.generate.sequences import Sequences, prompts_of
from pymodel.models.cache import KeyValueCache, checked_cache

_NO_LIMIT = sys.maxsize // 2  # of models with relative positions
_ROOM = 512  # new tokens to set memory aside for; few texts are longer, and for those it grows


@dataclasses.dataclass(frozen=True)
class Start:
    """predictor: its rows are the prompts; prompts: where the rows start; cache: what a later call may go on
    from, when that was asked for."""

    predictor: Predictor
    prompts: Sequences
    cache: KeyValueCache | None = None


def start(
    model: Any,
    input_ids: Any,
    attention_mask: Any,
    options: GenerationOptions,
    cache: KeyValueCache | None = None,
    keep_cache: bool = False,
    decoder_input_ids: Any = None,
) -> Start:
    """Checks what a model is to continue and sets up its predictor.

    Args: as `generate`; `cache` is its past_key_values; `keep_cache`, whether a new one will be wanted
    afterwards, where there can be one.

    Raises: PymodelError for an empty prompt and for one that fills the model's context; ConfigError for
    options that do not fit the model; ValueError or TypeError for ids that are no token ids of it; TypeError
    for what is no cache.
    """
    config = model.config
    cache = checked_cache(cache)
    context = int(getattr(config, "max_position_embeddings", None) or _NO_LIMIT)
    if getattr(config, "is_encoder_decoder", False):
        sources = prompts_of(input_ids, attention_mask, config.source_vocab_size)
        _check_tokens(options, config.target_vocab_size, "decoder_start_token_id")
        if cache is not None:
            raise ConfigError(
                "past_key_values cannot be used with an encoder-decoder, whose cache belongs to one source"
            )
        return _start_of_encoder_decoder(model, sources, decoder_input_ids, options, context)
    if decoder_input_ids is not None:
        raise ConfigError("decoder_input_ids are for encoder-decoders; pass the prompt as input_ids")
    given = prompts_of(input_ids, attention_mask, config.vocab_size)
    _check_tokens(options, config.vocab_size)
    for number, prompt in enumerate(given):
        _check_prompt(prompt, number, len(given), context)
    prompts = Sequences(given, _limits(given, options, context))
    if cache is not None:
        _check_cache(cache, given, options)
    lent = cache is not None or (keep_cache and options.num_beams == 1)
    used = _new_cache(model, prompts, options) if cache is None else cache
    return Start(DecoderPredictor(model, used, lent), prompts, used if lent else None)


def _start_of_encoder_decoder(
    model: Any,
    sources: Sequence[np.ndarray],
    decoder_input_ids: Any,
    options: GenerationOptions,
    context: int,
) -> Start:
    for number, source in enumerate(sources):
        _check_prompt(source, number, len(sources), _NO_LIMIT)
    if options.decoder_start_token_id is None:
        raise ConfigError(
            "decoder_start_token_id: the model's configuration names none; pass the token to start with"
        )
    starts = _decoder_prompts(decoder_input_ids, model.config.target_vocab_size, len(sources), options)
    for number, begun in enumerate(starts):
        _check_prompt(begun, number, len(starts), context)
    prompts = Sequences(starts, _limits(starts, options, context))
    return Start(EncoderDecoderPredictor(model, sources, _new_cache(model, prompts, options)), prompts)


def _decoder_prompts(given: Any, vocab_size: int, count: int, options: GenerationOptions) -> list[np.ndarray]:
    """The tokens from which the decoder starts: the start token, and what is given behind it."""
    token = np.array([options.decoder_start_token_id], dtype=np.int64)
    if given is None:
        return [token] * count
    prompts = prompts_of(given, None, vocab_size)
    lengths = {len(prompt) for prompt in prompts}
    if len(prompts) != count or len(lengths) > 1:
        raise ConfigError(
            f"decoder_input_ids must be {count} rows of one length, as input_ids has {count}, got "
            f"{len(prompts)} of {' and '.join(map(str, sorted(lengths)))} tokens"
        )
    if any(len(prompt) and prompt[0] == token[0] for prompt in prompts):
        return prompts
    return [np.concatenate([token, prompt]) for prompt in prompts]


def _new_cache(model: Any, prompts: Sequences, options: GenerationOptions) -> KeyValueCache | None:
    if not options.use_cache:
        return None
    longest, most = (int(lengths.max(initial=0)) for lengths in (prompts.lengths, prompts.limits))
    cache: KeyValueCache = model.new_cache(len(prompts), min(most, longest + _ROOM))
    return cache


def _limits(prompts: Sequence[np.ndarray], options: GenerationOptions, context: int) -> np.ndarray:
    """The length at which each row is full."""
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    new, most = options.max_new_tokens, options.max_length
    if new is None and most is not None:
        if most <= lengths.max(initial=0):
            raise ConfigError(
                f"max_length {most} leaves no room behind a prompt of {lengths.max()} tokens; "
                "pass a larger one, or max_new_tokens, which counts new tokens only"
            )
        return np.full_like(lengths, min(most, context))
    return np.minimum(lengths + (DEFAULT_NEW_TOKENS if new is None else new), context)


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


def _check_tokens(options: GenerationOptions, vocab_size: int, *more: str) -> None:
    for name in ("forced_bos_token_id", "forced_eos_token_id", *more):
        given = getattr(options, name)
        if given is not None and int(np.max(given)) >= vocab_size:
            raise ConfigError(f"{name} must be below the model's vocab_size {vocab_size}, got {given}")


def _check_cache(cache: KeyValueCache, prompts: Sequence[np.ndarray], options: GenerationOptions) -> None:
    """Whether a cache holds the beginning of each prompt, and leaves one token at least to read; what it
    holds beyond their common beginning is dropped."""
    if options.num_beams > 1:
        raise ConfigError("past_key_values cannot be used with num_beams above 1; pass num_beams=1")
    if not options.use_cache:
        raise ConfigError("past_key_values needs use_cache=True, got False")
    if cache.batch != len(prompts):
        raise ConfigError(
            f"past_key_values holds {cache.batch} rows and input_ids {len(prompts)}; start with "
            f"model.new_cache({len(prompts)})"
        )
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    if cache.tokens is not None:
        same = [_common(held, prompt) for held, prompt in zip(cache.tokens, prompts, strict=True)]
        cache.crop(np.array(same, dtype=np.int64))
    elif (cache.lengths >= lengths).any():
        row = int((cache.lengths >= lengths).argmax())
        raise ConfigError(
            f"past_key_values holds {cache.lengths[row]} tokens of row {row} and input_ids {lengths[row]}; "
            "input_ids must be the whole text, that in the cache and at least one token more"
        )


def _common(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens two sequences have in common at their beginning."""
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if differing.size else length
