"""gemm and linear against torch.mm: the cubes of issue lists and the shapes of GPT-2 124M training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import pymodel as pm
from benchmarks.harness import Case, agree
from pymodel import _core

# (M, N, K), how the operands are stored, what the product is
SHAPES = [
    (1024, 1024, 1024, "NT", "cube"),
    (2048, 2048, 2048, "NT", "cube"),
    (256, 2304, 768, "NT", "qkv forward"),
    (256, 768, 2304, "NN", "qkv dgrad"),
    (2304, 768, 256, "TN", "qkv wgrad"),
    (256, 3072, 768, "NT", "mlp up forward"),
    (256, 768, 3072, "NT", "mlp down forward"),
    (256, 50257, 768, "NT", "output head"),
    (1, 50257, 768, "NT", "output head, one token"),
]


def cases() -> Iterator[Case]:
    """float32 products at every shape."""
    for m, n, k, layout, what in SHAPES:
        yield product(m, n, k, layout, what)


def product(m: int, n: int, k: int, layout: str, what: str) -> Case:
    """One product, its operands stored as `layout` says: N row by row, T transposed."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if layout[0] == "T" else (m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if layout[1] == "T" else (k, n), dtype=np.float32)
    ours_a, ours_b = pm.tensor(a)._array, pm.tensor(b)._array
    theirs_a, theirs_b = torch.from_numpy(a), torch.from_numpy(b)
    if layout[0] == "T":
        ours_a, theirs_a = ours_a.permute([1, 0]), theirs_a.t()
    if layout[1] == "T":
        ours_b, theirs_b = ours_b.permute([1, 0]), theirs_b.t()
    out = pm.empty((m, n))._array
    torch_out = torch.empty(m, n)

    def ours() -> None:
        _core.gemm(ours_a, ours_b, out)

    def theirs() -> None:
        torch.mm(theirs_a, theirs_b, out=torch_out)

    def check() -> None:
        ours()
        theirs()
        agree(out.numpy(), torch_out, 1e-5, "gemm")

    name = f"gemm {m} x {n} x {k} {layout} ({what})"
    return Case(name, {"pymodel": ours, "torch": theirs}, 2.0 * m * n * k, "FLOP", check, bar=0.5)
