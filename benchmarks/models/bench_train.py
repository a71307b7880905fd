"""Whole training steps of GPT-2: forward, backward, clipping, AdamW; beside torch, and llm.c where given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import pymodel as pm
from benchmarks.harness import OURS, Case, Contender, Contest, agree
from benchmarks.models.gpt2 import GPT2_124M, MEDIUM, SMALL, Sizes, random_tokens, shared_weights
from benchmarks.settings import Settings

OPTIONS: dict[str, Any] = {"lr": 1e-4, "weight_decay": 0.1}
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # of the losses of the first steps
CHECKED_STEPS = 2


def cases(settings: Settings) -> Iterator[Case]:
    """Three sizes in both dtypes: bfloat16 weights with float32 masters for us, autocast for torch."""
    for dtype in settings.chosen("float32", "bfloat16"):
        yield training(settings, SMALL, 12, 64, dtype, bar=2.0)
        if not settings.quick:
            yield training(settings, MEDIUM, 16, 256, dtype, bar=2.0)
            yield training(settings, GPT2_124M, 4, 256, dtype, bar=1.3)
    if settings.llm_c is not None and "llm.c" in settings.peers and settings.chosen("float32"):
        yield beside_llm_c(settings)


def training(settings: Settings, sizes: Sizes, batch: int, length: int, dtype: str, bar: float) -> Case:
    """Random tokens, the same initial weights for everyone."""
    title = f"train {sizes.name} {dtype} {batch} x {length}"
    return Case(
        title, lambda: contest(settings, title, sizes, batch, length, dtype), batch * length, "tokens", bar,
        dtype=dtype, flop=sizes.training_flop(batch, length), seconds=0.5,
    )  # fmt: skip


def contest(settings: Settings, title: str, sizes: Sizes, batch: int, length: int, dtype: str) -> Contest:
    """The losses of the first steps must agree; without a peer, they must fall."""
    tokens = random_tokens(sizes, batch, length)
    theirs: Any = None
    if settings.torch_models:
        from benchmarks.peers import torch_gpt2

        model, theirs = shared_weights(sizes, dtype, torch_gpt2.load)
    else:
        model, _ = shared_weights(sizes, dtype, None)
    contenders: dict[str, Contender] = {OURS: our_step(model, tokens)}
    if theirs is not None:
        contenders["torch"] = torch_gpt2.training_step(theirs, tokens, dtype, OPTIONS)

    def check() -> None:
        losses = {name: [step() for _ in range(CHECKED_STEPS)] for name, step in contenders.items()}
        if "torch" in losses:
            agree(losses[OURS], losses["torch"], TOLERANCE[dtype], f"{title}, losses")
        elif not losses[OURS][-1] < losses[OURS][0]:
            raise AssertionError(f"{title}: the loss does not fall: {losses[OURS]}")

    return Contest(contenders, check)


def our_step(model: Any, tokens: np.ndarray, labels: np.ndarray | None = None) -> Callable[[], list[float]]:
    """One training step, which returns its loss; the tokens are their own labels unless others are given."""
    targets = tokens if labels is None else labels
    model.train()
    optimizer = pm.optim.AdamW(model.parameters(), **OPTIONS)

    def step() -> list[float]:
        loss = model(tokens, labels=targets).loss
        loss.backward()
        pm.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return [loss.item()]

    return step


def beside_llm_c(settings: Settings) -> Case:
    """llm.c's trainer has one batch, 4 x 64, and weights and text of its own: losses cannot be compared."""
    batch, length = 4, 64
    title = f"train {GPT2_124M.name} float32 {batch} x {length}, beside llm.c"

    def prepare() -> Contest:
        from benchmarks.peers.llm_c import trainer

        assert settings.llm_c is not None
        ours = contest(Settings(), title, GPT2_124M, batch, length, "float32")
        return Contest({**ours.contenders, "llm.c": trainer(settings.llm_c)}, ours.check)

    flop = GPT2_124M.training_flop(batch, length)
    return Case(title, prepare, batch * length, "tokens", bar=8.0, peers=("llm.c",), flop=flop, seconds=0.5)
