"""attention forward and backward against torch's scaled_dot_product_attention."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import pymodel as pm
from benchmarks.harness import Case, agree
from pymodel import ops


def cases() -> Iterator[Case]:
    """GPT-2's heads at several lengths, causal."""
    for batch, length in ((4, 64), (4, 256), (1, 1024), (1, 2048)):
        yield training(batch, length, heads=12, width=64)


def training(batch: int, length: int, heads: int, width: int) -> Case:
    """Forward and backward of causal self-attention, float32."""
    rng = np.random.default_rng(0)
    shape = (batch, length, heads, width)
    values = [rng.standard_normal(shape, dtype=np.float32) for _ in range(4)]
    q, k, v = (pm.tensor(x, requires_grad=True) for x in values[:3])
    gradient = pm.tensor(values[3])
    torch_leaves = [torch.from_numpy(x).requires_grad_() for x in values[:3]]
    torch_gradient = torch.from_numpy(values[3]).transpose(1, 2)

    def ours() -> pm.Tensor:
        for leaf in (q, k, v):
            leaf.grad = None
        out = ops.attention(q, k, v, causal=True)
        out.backward(gradient)
        return out

    def theirs() -> torch.Tensor:
        for leaf in torch_leaves:
            leaf.grad = None
        heads_first = (x.transpose(1, 2) for x in torch_leaves)
        out = torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=True)
        out.backward(torch_gradient)
        return out

    def check() -> None:
        agree(ours(), theirs().detach().transpose(1, 2), 1e-5, "attention")
        for leaf, torch_leaf in zip((q, k, v), torch_leaves, strict=True):
            agree(leaf.grad, torch_leaf.grad, 1e-5, "attention gradient")

    # Two products forward, five backward, of half the square each.
    flop = 7 * 2.0 * batch * heads * length * length * width / 2
    name = f"attention forward+backward {batch} x {length}, {heads} heads of {width}, causal"
    return Case(name, {"pymodel": ours, "torch": theirs}, flop, "FLOP", check)
