"""The AdamW step against torch's fused one, over all tensors of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import pymodel as pm
from benchmarks import reference
from benchmarks.harness import OURS, Case, Contest, gate
from benchmarks.ops.op_case import normal
from benchmarks.settings import TOLERANCE, Settings

OPTIONS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
BYTES = 28  # of a parameter: weight, gradient and two moments read; weight and moments written


def cases(settings: Settings) -> Iterator[Case]:
    """All of GPT-2 124M, which comes from memory, and many small tensors, which do not."""
    if not settings.chosen("float32"):
        return
    if not settings.quick:
        yield step(settings, "GPT-2 124M", gpt2_shapes(12, 768, 50257, 1024), cold=True)
    yield step(settings, "4 x 128 GPT", gpt2_shapes(4, 128, 4096, 256), cold=False)


def gpt2_shapes(layers: int, width: int, vocabulary: int, positions: int) -> list[tuple[int, ...]]:
    """The parameter shapes of a GPT-2."""
    norm = [(width,), (width,)]
    block = [*norm, (width, 3 * width), (3 * width,), (width, width), (width,)]
    block += [*norm, (width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(vocabulary, width), (positions, width), *(block * layers), *norm]


def step(settings: Settings, name: str, shapes: list[tuple[int, ...]], cold: bool) -> Case:
    """One optimiser step, float32, weight decay on; `cold` if the tensors are larger than any cache."""
    count = float(sum(np.prod(shape) for shape in shapes))
    moving = count if cold else 0.0  # what stays in a cache has no ceiling here
    title = f"adamw {name} ({count / 1e6:.1f} M)"
    return Case(
        title, lambda: contest(settings, title, shapes), BYTES * count, "B", group="adamw",
        flop=15 * moving, read=16 * moving, written=12 * moving,
    )  # fmt: skip


def contest(settings: Settings, title: str, shapes: list[tuple[int, ...]]) -> Contest:
    """Each contender updates parameters of its own; the first step is held against the formula."""
    values = [normal(*shape, seed=index) for index, shape in enumerate(shapes)]
    gradients = [normal(*shape, seed=1000 + index) for index, shape in enumerate(shapes)]
    parameters = [pm.tensor(value, requires_grad=True) for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = pm.from_numpy(gradient)
    optimizer = pm.optim.AdamW(parameters, **OPTIONS)

    def ours() -> list[pm.Tensor]:
        optimizer.step()
        return parameters

    contenders = {OURS: ours}
    if "torch" in settings.peers:
        from benchmarks.peers import torch_ops

        contenders["torch"] = torch_ops.adamw(values, gradients, OPTIONS)

    def truth() -> list[np.ndarray]:
        return [reference.adamw(v, g, OPTIONS) for v, g in zip(values, gradients, strict=True)]

    return gate(contenders, truth, TOLERANCE["float32"], title)
