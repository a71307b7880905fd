"""rotary forward+backward against torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import pymodel as pm
from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops


def cases(settings: Settings) -> Iterator[Case]:
    """Queries of Llama models: 9 heads of 64, and 32 heads of 128."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for tokens, heads, width in ((1024, 9, 64),) if settings.quick else ((1024, 9, 64), (512, 32, 128)):
            yield rotary(settings, 4, tokens, heads, width, dtype)


def rotary(settings: Settings, batch: int, tokens: int, heads: int, width: int, dtype: str) -> Case:
    """All elements turned, by positions from 0."""
    shape = (batch, tokens, heads, width)
    size = float(BYTES[dtype]) * batch * tokens * heads * width
    title = f"rotary forward+backward {dtype} {' x '.join(map(str, shape))}"
    angles = np.outer(np.arange(tokens), 10000.0 ** (-2 * np.arange(width // 2) / width))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    tables = pm.from_numpy(cos), pm.from_numpy(sin)
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(*shape)],
            lambda x: ops.rotary(x, *tables),
            lambda torch: torch.rotary(torch.tensor(cos), torch.tensor(sin)),
            lambda x, dy: reference.rotary(x, cos, sin, dy),
            gradient=normal(*shape, seed=1), backward=True, touched=4 * size,
        ),
        4 * size, "B", group=f"rotary forward+backward {dtype}", dtype=dtype,
        flop=6.0 * batch * tokens * heads * width, read=2 * size, written=2 * size,
    )  # fmt: skip
