"""gemm against torch.mm and OpenBLAS: the products of GPT-2 and BERT training, and of decoding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import pymodel as pm
from benchmarks.harness import OURS, Case, Contender, Contest, gate
from benchmarks.ops.op_case import BYTES, normal, sample, stored
from benchmarks.reference import wide
from benchmarks.settings import TOLERANCE, Settings
from pymodel import _core

# (M, N, K), how the operands are stored (N row by row, T transposed), what the product is. GPT-2 keeps
# weights as (in, out), BERT and output heads as (out, in).
TRAINING = [
    (1024, 2304, 768, "NN", "GPT-2 qkv forward"),
    (1024, 768, 768, "NN", "GPT-2 projection forward"),
    (1024, 3072, 768, "NN", "GPT-2 mlp up forward"),
    (1024, 768, 3072, "NN", "GPT-2 mlp down forward"),
    (1024, 768, 2304, "NT", "GPT-2 qkv dgrad"),
    (1024, 768, 768, "NT", "GPT-2 projection dgrad"),
    (1024, 768, 3072, "NT", "GPT-2 mlp up dgrad"),
    (1024, 3072, 768, "NT", "GPT-2 mlp down dgrad"),
    (768, 2304, 1024, "TN", "GPT-2 qkv wgrad"),
    (768, 768, 1024, "TN", "GPT-2 projection wgrad"),
    (768, 3072, 1024, "TN", "GPT-2 mlp up wgrad"),
    (3072, 768, 1024, "TN", "GPT-2 mlp down wgrad"),
    (256, 50257, 768, "NT", "GPT-2 head forward"),
    (256, 768, 50257, "NN", "GPT-2 head dgrad"),
    (50257, 768, 256, "TN", "GPT-2 head wgrad"),
    (2048, 1536, 384, "NT", "MiniLM mlp up forward"),
    (2048, 384, 1536, "NN", "MiniLM mlp up dgrad"),
    (1536, 384, 2048, "TN", "MiniLM mlp up wgrad"),
    (512, 768, 768, "NT", "BERT projection forward"),
    (2048, 384, 384, "NT", "MiniLM projection forward"),
]
DECODING = [
    (1, 2304, 768, "NN", "GPT-2 qkv"),
    (1, 768, 3072, "NN", "GPT-2 mlp down"),
    (1, 50257, 768, "NT", "GPT-2 head"),
    (8, 3072, 768, "NN", "GPT-2 mlp up"),
]
QUICK = {"qkv forward", "mlp up dgrad", "mlp down wgrad", "head"}  # of GPT-2
SAMPLE = 32  # rows and columns of a product that are held against float64


def cases(settings: Settings) -> Iterator[Case]:
    """Twenty products of training, whose geometric mean has the bar, and those of decoding one token."""
    for dtype in settings.chosen("float32", "bfloat16", "float16"):
        for kind, shapes in (("training", TRAINING), ("decoding", DECODING)):
            for m, n, k, layout, what in shapes:
                if not settings.quick or what.removeprefix("GPT-2 ") in QUICK:
                    yield product(settings, m, n, k, layout, dtype, what, kind)


def product(
    settings: Settings, m: int, n: int, k: int, layout: str, dtype: str, what: str, kind: str = "training"
) -> Case:
    """One product, its operands stored as `layout` says."""
    title = f"gemm {dtype} {m} x {n} x {k} {layout} ({what})"
    size = float(BYTES[dtype])
    return Case(
        title, lambda: contest(settings, title, m, n, k, layout, dtype), 2.0 * m * n * k, "FLOP",
        group=f"gemm {dtype}, {kind}", peers=("torch", "openblas") if dtype == "float32" else ("torch",),
        dtype=dtype, flop=2.0 * m * n * k, read=size * (m + n) * k,
        written=size * m * n,
    )  # fmt: skip


def contest(settings: Settings, title: str, m: int, n: int, k: int, layout: str, dtype: str) -> Contest:
    """Everyone multiplies the same operands into memory that is there."""
    a = stored(normal(k, m) if layout[0] == "T" else normal(m, k), dtype)
    b = stored(normal(n, k, seed=1) if layout[1] == "T" else normal(k, n, seed=1), dtype)
    rows, columns = sample(m, SAMPLE), sample(n, SAMPLE)
    contenders: dict[str, Contender] = {OURS: ours(a, b, layout)}
    if "torch" in settings.peers:
        from benchmarks.peers import torch_ops

        contenders["torch"] = torch_ops.product(a, b, layout)
    if "openblas" in settings.peers and dtype == "float32":
        from benchmarks.peers import openblas

        contenders["openblas"] = openblas.product(a, b, layout)

    def truth() -> list[np.ndarray]:
        x = a.T if layout[0] == "T" else a
        y = b.T if layout[1] == "T" else b
        return [np.matmul(*wide(x[rows], y)), np.matmul(*wide(x, y[:, columns]))]

    def sampled(call: Contender) -> Contender:
        return lambda: [part for (out,) in [call()] for part in (out[rows], out[:, columns])]

    samples = {name: sampled(call) for name, call in contenders.items()}
    return Contest(contenders, gate(samples, truth, TOLERANCE[dtype], title).check)


def ours(a: np.ndarray, b: np.ndarray, layout: str) -> Contender:
    """The kernel itself."""
    x, y = (pm.from_numpy(stored)._array for stored in (a, b))
    if layout[0] == "T":
        x = x.permute([1, 0])
    if layout[1] == "T":
        y = y.permute([1, 0])
    out = pm.empty((x.shape[0], y.shape[1]), dtype=x.dtype)

    def call() -> list[pm.Tensor]:
        _core.gemm(x, y, out._array)
        return [out]

    return call
