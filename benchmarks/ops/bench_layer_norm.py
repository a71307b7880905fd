"""layer_norm forward and forward+backward against torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import pymodel as pm
from benchmarks.harness import Case, agree
from pymodel import ops


def cases() -> Iterator[Case]:
    """Widths of GPT-2 small and of a large model."""
    for rows, columns in ((1024, 768), (8192, 768), (2048, 4096)):
        yield normalise(rows, columns, backward=False)
        yield normalise(rows, columns, backward=True)


def normalise(rows: int, columns: int, backward: bool) -> Case:
    """float32, with weight and bias."""
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s, dtype=np.float32) for s in ((rows, columns), columns, columns)]
    ours_leaves = [pm.tensor(v, requires_grad=backward) for v in values]
    x, weight, bias = ours_leaves
    torch_leaves = [torch.from_numpy(v).requires_grad_(backward) for v in values]
    incoming = rng.standard_normal((rows, columns), dtype=np.float32)
    gradient, torch_gradient = pm.tensor(incoming), torch.from_numpy(incoming)

    def ours() -> pm.Tensor:
        out = ops.layer_norm(x, weight, bias)
        if backward:
            for leaf in ours_leaves:
                leaf.grad = None
            out.backward(gradient)
        return out

    def theirs() -> torch.Tensor:
        out = torch.nn.functional.layer_norm(torch_leaves[0], (columns,), *torch_leaves[1:])
        if backward:
            for leaf in torch_leaves:
                leaf.grad = None
            out.backward(torch_gradient)
        return out

    def check() -> None:
        agree(ours(), theirs().detach(), 1e-5, "layer_norm")
        if backward:
            for leaf, torch_leaf in zip(ours_leaves, torch_leaves, strict=True):
                agree(leaf.grad, torch_leaf.grad, 1e-4, "layer_norm gradient")

    # Forward reads x and writes y; backward reads x and dy and writes dx.
    moved = 4.0 * rows * columns * (5 if backward else 2)
    name = f"layer_norm {'forward+backward' if backward else 'forward'} {rows} x {columns}"
    return Case(name, {"pymodel": ours, "torch": theirs}, moved, "B", check)
