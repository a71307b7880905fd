"""A short piece of text from a model, to see what it has learnt."""

from __future__ import annotations

from pymodel.generate import stream_generate
from pymodel.models import GPT2LMHeadModel
from pymodel.text import Tokenizer

_TEMPERATURE = 0.8  # a little safer than the model's own distribution: small models ramble
_TOP_K = 50


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens to begin with: the prompt's, or the one that stands before every text."""
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return tokenizer.encode(prompt) if prompt or begin is None else [begin]


def sample_text(model: GPT2LMHeadModel, tokenizer: Tokenizer, prompt: str, tokens: int, seed: int) -> str:
    """What the model goes on with after a prompt, prompt included.

    A prompt that leaves no room in the model's context loses its beginning.
    """
    context = model.config.n_positions
    ids = prompt_ids(tokenizer, prompt)[-max(1, context // 2) :]
    responses = stream_generate(
        model,
        tokenizer,
        ids,
        max_new_tokens=tokens,
        do_sample=True,
        temperature=_TEMPERATURE,
        top_k=_TOP_K,
        seed=seed,
    )
    return prompt + "".join(response.text for response in responses)
