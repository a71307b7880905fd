"""Generation for one prompt with GPT-2 124M, beside transformers' generate with its cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import OURS, Case, Contender, Contest, agree
from benchmarks.models.gpt2 import GPT2_124M, SMALL, Sizes, random_tokens, shared_weights
from benchmarks.settings import TOLERANCE, Settings

PROMPT, NEW = 16, 32  # tokens


def cases(settings: Settings) -> Iterator[Case]:
    """Random weights: what the text says does not matter here."""
    for dtype in settings.chosen("float32", "bfloat16"):
        yield generation(settings, SMALL if settings.quick else GPT2_124M, dtype)


def generation(settings: Settings, sizes: Sizes, dtype: str) -> Case:
    """Greedy tokens after a short prompt; each token reads every weight once."""
    title = f"generate {sizes.name} {dtype}, {PROMPT} + {NEW} tokens, one prompt"
    weights = (4.0 if dtype == "float32" else 2.0) * sizes.weights
    return Case(
        title, lambda: contest(settings, title, sizes, dtype), NEW, "tokens", bar=1.5, dtype=dtype,
        peers=("transformers",), seconds=0.3,
        read=NEW * weights if sizes is GPT2_124M else 0.0,  # a small model stays in cache
    )  # fmt: skip


def contest(settings: Settings, title: str, sizes: Sizes, dtype: str) -> Contest:
    """The prompt's logits must agree; in float32 the tokens too, in bfloat16 near ties fall either way."""
    prompt = random_tokens(sizes, 1, PROMPT)
    theirs: Any = None
    if "transformers" in settings.peers:
        from benchmarks.peers import torch_gpt2

        model, theirs = shared_weights(sizes, dtype, lambda folder: torch_gpt2.load(folder, dtype))
    else:
        model, _ = shared_weights(sizes, dtype, None)
    model.eval()

    def generate() -> list[np.ndarray]:
        return [model.generate(prompt, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)]

    contenders: dict[str, Contender] = {OURS: generate}
    if theirs is not None:
        contenders["transformers"] = torch_gpt2.generation(theirs, prompt, NEW)

    def check() -> None:
        (ours,) = generate()
        agree(ours[:, :PROMPT], prompt, 0.0, f"{title}, prompt")
        agree([ours.shape[1]], [PROMPT + NEW], 0.0, f"{title}, length")
        if theirs is not None:
            logits = model(prompt).logits
            agree(logits, torch_gpt2.logits(theirs, prompt), TOLERANCE[dtype], f"{title}, logits")
            if dtype == "float32":
                agree(ours, contenders["transformers"]()[0], 0.0, f"{title}, tokens")

    return Contest(contenders, check)
