"""The AdamW step against torch's fused one, over the tensors of GPT-2 124M."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import pymodel as pm
from benchmarks.harness import Case, agree


def cases() -> Iterator[Case]:
    """All of GPT-2 124M, and many small tensors."""
    yield step("GPT-2 124M", gpt2_shapes(12, 768, 50257, 1024))
    yield step("4 x 128 GPT", gpt2_shapes(4, 128, 4096, 256))


def gpt2_shapes(layers: int, width: int, vocabulary: int, positions: int) -> list[tuple[int, ...]]:
    """The parameter shapes of a GPT-2."""
    norm = [(width,), (width,)]
    block = [*norm, (width, 3 * width), (3 * width,), (width, width), (width,)]
    block += [*norm, (width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(vocabulary, width), (positions, width), *(block * layers), *norm]


def step(name: str, shapes: list[tuple[int, ...]]) -> Case:
    """One optimiser step, float32, weight decay on."""
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    ours_parameters, torch_parameters = [], []
    for shape in shapes:
        value, gradient = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        ours_parameters.append(pm.tensor(value, requires_grad=True))
        ours_parameters[-1].grad = pm.tensor(gradient)
        torch_parameters.append(torch.from_numpy(value.copy()).requires_grad_())
        torch_parameters[-1].grad = torch.from_numpy(gradient)
    ours_optimizer = pm.optim.AdamW(ours_parameters, **settings)
    torch_optimizer = torch.optim.AdamW(torch_parameters, fused=True, **settings)

    def check() -> None:
        ours_optimizer.step()
        torch_optimizer.step()
        for ours, theirs in zip(ours_parameters, torch_parameters, strict=True):
            agree(ours.numpy(), theirs.detach(), 1e-6, "adamw")

    count = sum(int(np.prod(s)) for s in shapes)
    # Reads weight, gradient and two moments; writes weight and moments.
    contenders = {"pymodel": ours_optimizer.step, "torch fused": torch_optimizer.step}
    return Case(f"adamw {name} ({count / 1e6:.1f} M)", contenders, 28.0 * count, "B", check)
