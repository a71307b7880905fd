"""Continuing prompts with a language model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pymodel.errors import ConfigError
from pymodel.generate.beams import BeamSearch
from pymodel.generate.decoding import NO_TOKEN, Decoding
from pymodel.generate.defaults import options_of
from pymodel.generate.options import GenerationOptions
from pymodel.generate.sequences import padded
from pymodel.generate.start import Start, start
from pymodel.generate.streaming import Streamer, TextPieces
from pymodel.models.cache import KeyValueCache
from pymodel.models.outputs import ModelOutput


@dataclasses.dataclass
class GenerateOutput(ModelOutput):
    """What `generate` returns with return_dict_in_generate.

    sequences: what it returns without.
    sequences_scores: (rows,) float32, with beams: log probability of the new tokens over their number to
        the power of `length_penalty`.
    past_key_values: of a decoder without beams, the cache that a later call may go on from.
    """

    sequences: np.ndarray
    sequences_scores: np.ndarray | None = None
    past_key_values: KeyValueCache | None = None


def generate(
    model: Any,
    input_ids: Any,
    max_new_tokens: int | None = None,
    do_sample: bool | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    *,
    attention_mask: Any = None,
    decoder_input_ids: Any = None,
    past_key_values: KeyValueCache | None = None,
    tokenizer: Any = None,
    streamer: Streamer | None = None,
    return_dict_in_generate: bool = False,
    **options: Any,
) -> Any:
    """Continues a batch of prompts, or with an encoder-decoder answers a batch of sources.

    Each prompt gets the tokens it would get alone: by greedy choice and beam search the same ones, and by
    sampling those that the seed draws for any prompt in that place.

    Args:
        model: a language model such as `GPT2LMHeadModel`.
        input_ids: (batch, sequence) integers, or a list of lists of unequal length.
        max_new_tokens, do_sample, temperature, top_k, top_p, seed, and in `options` everything else that
            `GenerationOptions` has, such as num_beams, repetition_penalty or stop_strings. What is not given
            is as `model.generation_config` says, then as it is there. Without sampling, temperature, top_k,
            top_p, min_p and seed have no effect. max_length counts each row without its padding, so that a
            row ends where it would end alone; where neither it nor max_new_tokens is set anywhere, 64 tokens
            are written (transformers: 20).
        attention_mask: (batch, sequence), 0 where a prompt is padded, on either side.
        decoder_input_ids: (batch, tokens) with which an encoder-decoder's answers begin; its start token is
            put before them unless it is there.
        past_key_values: a cache, new from `model.new_cache(batch)` or of an earlier call, in which everything
            but the last token stays: a later call, whose input_ids go on from this one's, then reads only
            what is new. What it holds of another text is dropped.
        tokenizer: needed to find stop_strings.
        streamer: takes the tokens of a single prompt as they come, such as `TextStreamer`.
        return_dict_in_generate: return a `GenerateOutput`, which has the scores of beams and the cache too.

    Returns: (batch * num_return_sequences, sequence + new) int64: the prompts as they were given
    (lists of unequal length padded on the left), then the new tokens up to and including an end
    token or the one that completes a stop string, then padding. Of an encoder-decoder, (rows, 1 + new): its
    start token, those of decoder_input_ids and the new ones.

    Raises: ConfigError for an option; PymodelError for a prompt that is empty or fills the model's
    context; ValueError or TypeError for ids that are no token ids of the model; TypeError for
    past_key_values that are no `KeyValueCache`.
    """
    named = {
        "max_new_tokens": max_new_tokens,
        "do_sample": do_sample,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    if streamer is not None:
        options.setdefault("num_beams", 1)  # whatever the model's own default is
    chosen = options_of(model, {**options, **named})
    if chosen.stops and tokenizer is None:
        raise ConfigError("stop_strings are found in text: pass the model's tokenizer too, tokenizer=...")
    began = start(
        model,
        input_ids,
        attention_mask,
        chosen,
        past_key_values,
        return_dict_in_generate,
        decoder_input_ids,
    )
    scores = None
    if chosen.num_beams > 1:
        if streamer is not None:
            raise ConfigError("streamer cannot be used with num_beams above 1: a beam may still change")
        new_tokens, scores = _from_beams(began, chosen)
    else:
        new_tokens = _token_by_token(began, chosen, tokenizer, streamer)
    padding = _padding(chosen)
    given = _as_given(model, input_ids, began, padding)
    given = np.repeat(given, chosen.num_return_sequences, axis=0)
    sequences = np.concatenate([given, padded(new_tokens, padding)], axis=1)
    return GenerateOutput(sequences, scores, began.cache) if return_dict_in_generate else sequences


def _from_beams(began: Start, options: GenerationOptions) -> tuple[list[np.ndarray], np.ndarray]:
    """The new tokens of every row, and the rows' scores."""
    found = BeamSearch(began.predictor, began.prompts, options).run()
    lengths = began.prompts.prompt_lengths
    tokens = [best.tokens[length:] for ended, length in zip(found, lengths, strict=True) for best in ended]
    return tokens, np.array([best.score for ended in found for best in ended], dtype=np.float32)


def _token_by_token(
    began: Start, options: GenerationOptions, tokenizer: Any, streamer: Streamer | None
) -> list[np.ndarray]:
    """Decodes to the end, ends rows whose text reaches a stop string, and feeds the streamer; returns the
    new tokens of every row."""
    decoding = Decoding(began.predictor, began.prompts, options)
    rows = len(decoding.sequences)
    stops = options.stops
    prompts = decoding.sequences.tokens if stops else []
    texts = [TextPieces(tokenizer, stops, prompt.tolist()) for prompt in prompts]
    if streamer is not None:
        if rows != 1:
            raise ConfigError(f"streamer: expected one sequence to follow, got {rows}; pass one prompt")
        streamer.start(began.prompts.tokens[0], stops)
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
    return decoding.new_tokens


def _padding(options: GenerationOptions) -> int:
    end = options.end_ids[0] if options.end_ids else 0
    if options.pad_token_id is None:
        return end
    # As in transformers, behind the end of a beam a padding id of 0 gives way to the end token.
    return int(options.pad_token_id) or (end if options.num_beams > 1 else 0)


def _as_given(model: Any, input_ids: Any, began: Start, padding: int) -> np.ndarray:
    """The prompts as one array: as they came, or padded on the left; with an encoder-decoder what its
    answers begin with."""
    if getattr(model.config, "is_encoder_decoder", False):
        width = int(began.prompts.prompt_lengths.max(initial=1))
        return began.prompts.window(np.zeros(len(began.prompts), dtype=np.int64), width)
    if isinstance(input_ids, (list, tuple)) and len({len(row) for row in input_ids}) != 1:
        return padded(began.prompts.tokens, padding, on_left=True)
    return np.asarray(input_ids).astype(np.int64)
