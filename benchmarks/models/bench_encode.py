"""Encoders of MiniLM's size: a forward over sentences of mixed length, and training steps of a classifier.

Rates count real tokens: what padding costs shows as a lower rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import pymodel as pm
from benchmarks.harness import OURS, Case, Contender, Contest, agree
from benchmarks.models.bench_train import CHECKED_STEPS, OPTIONS, our_step
from benchmarks.models.bench_train import TOLERANCE as LOSS_TOLERANCE
from benchmarks.models.minilm import MINILM, EncoderSizes, mixed_lengths, shared_weights
from benchmarks.settings import TOLERANCE, Settings
from pymodel.models import BertForSequenceClassification, BertModel


def cases(settings: Settings) -> Iterator[Case]:
    """Random weights: what the sentences say does not matter here."""
    for dtype in settings.chosen("float32", "bfloat16"):
        yield forward(settings, MINILM, 64, 128, dtype, bar=2.0)
        yield training(settings, MINILM, 32, 64, dtype, bar=2.0)


def forward(
    settings: Settings, sizes: EncoderSizes, count: int, longest: int, dtype: str, bar: float
) -> Case:
    """Sentences of mixed length, padded to the longest of them."""
    title = f"encode {sizes.name} {dtype}, {count} sentences of up to {longest} tokens"
    lengths = mixed_lengths(count, longest)
    return Case(
        title, lambda: forward_contest(settings, title, sizes, lengths, dtype), float(lengths.sum()),
        "tokens", bar, peers=("transformers",), dtype=dtype, flop=sizes.flop(lengths), seconds=0.3,
    )  # fmt: skip


def forward_contest(
    settings: Settings, title: str, sizes: EncoderSizes, lengths: np.ndarray, dtype: str
) -> Contest:
    """The states of all tokens must agree; nobody reads those of padding."""
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.random.default_rng(1).integers(1, sizes.vocab_size, mask.shape) * mask
    theirs: Any = None
    if "transformers" in settings.peers:
        from benchmarks.peers import torch_encoders

        model, theirs = shared_weights(
            sizes, BertModel, dtype, lambda folder: torch_encoders.load_bare(folder, dtype)
        )
    else:
        model, _ = shared_weights(sizes, BertModel, dtype, None)

    def states() -> list[Any]:
        with pm.no_grad():
            return [model(ids, attention_mask=mask, padding_is_read=False).last_hidden_state]

    contenders: dict[str, Contender] = {OURS: states}
    if theirs is not None:
        contenders["transformers"] = torch_encoders.states(theirs, ids, mask)

    def check() -> None:
        found = states()[0].numpy()
        agree([found.shape], [(*mask.shape, sizes.width)], 0.0, f"{title}, shape")
        if theirs is not None:
            (expected,) = contenders["transformers"]()
            expected = expected.float().numpy()
            agree(found[mask == 1], expected[mask == 1], TOLERANCE[dtype], f"{title}, states")

    return Contest(contenders, check)


def training(
    settings: Settings, sizes: EncoderSizes, batch: int, length: int, dtype: str, bar: float
) -> Case:
    """Whole steps: forward, backward, clipping, AdamW."""
    title = f"train {sizes.name} classifier {dtype} {batch} x {length}"
    flop = 3.0 * sizes.flop(np.full(batch, length))
    return Case(
        title, lambda: training_contest(settings, title, sizes, batch, length, dtype), batch * length,
        "tokens", bar,
        dtype=dtype, flop=flop, seconds=0.5,
    )  # fmt: skip


def training_contest(
    settings: Settings, title: str, sizes: EncoderSizes, batch: int, length: int, dtype: str
) -> Contest:
    """The losses of the first steps must agree; without a peer, they must fall."""
    rng = np.random.default_rng(2)
    ids, labels = rng.integers(1, sizes.vocab_size, (batch, length)), rng.integers(0, 2, batch)
    theirs: Any = None
    kind = BertForSequenceClassification
    if settings.torch_models:
        from benchmarks.peers import torch_encoders, torch_gpt2

        model, theirs = shared_weights(sizes, kind, dtype, torch_encoders.load_classifier)
    else:
        model, _ = shared_weights(sizes, kind, dtype, None)
    contenders: dict[str, Contender] = {OURS: our_step(model, ids, labels)}
    if theirs is not None:
        contenders["torch"] = torch_gpt2.training_step(theirs, ids, dtype, OPTIONS, labels)

    def check() -> None:
        losses = {name: [step() for _ in range(CHECKED_STEPS)] for name, step in contenders.items()}
        if "torch" in losses:
            agree(losses[OURS], losses["torch"], LOSS_TOLERANCE[dtype], f"{title}, losses")
        elif not losses[OURS][-1] < losses[OURS][0]:
            raise AssertionError(f"{title}: the loss does not fall: {losses[OURS]}")

    return Contest(contenders, check)
