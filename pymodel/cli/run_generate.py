"""The work behind `pymodel generate`."""

from __future__ import annotations

import os
import sys

from pymodel.cli.devices import choose_device
from pymodel.cli.generate import GenerateOptions
from pymodel.cli.sampling import prompt_ids
from pymodel.generate import stream_generate
from pymodel.models import from_pretrained
from pymodel.text import Tokenizer


def write(options: GenerateOptions) -> None:
    """Prints the prompt and what the model goes on with, as it comes."""
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    tokenizer = Tokenizer.from_pretrained(options.model)
    model = from_pretrained(options.model, options.dtype, choose_device(options.device))
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    responses = stream_generate(
        model,
        tokenizer,
        prompt_ids(tokenizer, prompt),
        max_new_tokens=options.max_new_tokens,
        do_sample=not options.greedy,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        stop_strings=options.stop,
        seed=seed,
    )
    response = None
    _show(prompt)
    for response in responses:
        _show(response.text)
    _show("\n")
    if response is not None and sys.stderr.isatty():
        how = "" if options.greedy else f", seed {seed}"
        speed = f"{response.generation_tps:,.0f} tokens/s"
        print(f"[{response.generation_tokens} tokens, {speed}{how}]", file=sys.stderr)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
