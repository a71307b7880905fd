"""The work behind `pymodel generate`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from pymodel.cli.devices import choose_device
from pymodel.cli.generate import GenerateOptions
from pymodel.cli.sampling import prompt_ids
from pymodel.errors import ConfigError
from pymodel.generate import stream_generate
from pymodel.generate.streaming import GenerationResponse, prompt_tokens
from pymodel.models import from_pretrained
from pymodel.text import Tokenizer

_NEW_TOKENS = 100
_OF_DRAWS = ("temperature", "top_k", "top_p", "min_p", "seed")
_OF_ALL = ("min_new_tokens", "length_penalty", "repetition_penalty", "no_repeat_ngram_size")


def write(options: GenerateOptions) -> None:
    """Prints what the model writes: behind the prompt when it goes on from it, else alone."""
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    tokenizer = Tokenizer.from_pretrained(options.model)
    model = from_pretrained(options.model, options.dtype, choose_device(options.device))
    if not hasattr(model, "generate"):
        raise ConfigError(
            f"{options.model}: a {type(model).__name__} writes no text; use a language model, "
            "such as a GPT2LMHeadModel"
        )
    settings = generation_settings(options, model)
    before = ""
    if options.chat:
        ids = prompt_tokens(tokenizer, [{"role": "user", "content": prompt}])
    elif model.config.is_encoder_decoder:
        ids = tokenizer.encode(prompt)
    else:
        ids = prompt_ids(tokenizer, prompt)
        before = prompt
    if settings["num_beams"] > 1:
        rows = model.generate([ids], **settings)
        start = 1 if model.config.is_encoder_decoder else len(ids)
        _show(before + tokenizer.decode(rows[0, start:], skip_special_tokens=True) + "\n")
    else:
        responses = stream_generate(model, tokenizer, ids, **settings)
        _show(before)  # not until the options and the prompt are checked
        _stream(responses, settings)


def generation_settings(options: GenerateOptions, model: Any) -> dict[str, Any]:
    """The options of `generate`; what is not given is as the model's folder says."""
    own = vars(model.generation_config)
    given = {name: getattr(options, name) for name in (*_OF_DRAWS, *_OF_ALL)}
    settings = {name: value for name, value in given.items() if value is not None}
    beams = options.num_beams
    drawn = not options.greedy and any(name in settings for name in _OF_DRAWS)
    if not options.greedy and not model.config.is_encoder_decoder and (beams or 1) == 1:
        drawn = True
    if beams is None:
        searches = not (options.greedy or drawn or options.stop)
        beams = (own.get("num_beams") or 1) if searches else 1
    settings |= {"num_beams": beams, "do_sample": drawn, "stop_strings": options.stop}
    if drawn and options.seed is None:
        settings["seed"] = int.from_bytes(os.urandom(4), "little")
    if options.max_new_tokens is not None:
        settings["max_new_tokens"] = options.max_new_tokens
    elif own.get("max_new_tokens") is None and own.get("max_length") is None:
        settings["max_new_tokens"] = _NEW_TOKENS
    return settings


def _stream(responses: Iterator[GenerationResponse], settings: dict[str, Any]) -> None:
    response = None
    for response in responses:
        _show(response.text)
    _show("\n")
    if response is not None and sys.stderr.isatty():
        how = f", seed {settings['seed']}" if settings["do_sample"] else ""
        speed = f"{response.generation_tps:,.0f} tokens/s"
        print(f"[{response.generation_tokens} tokens, {speed}{how}]", file=sys.stderr)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
