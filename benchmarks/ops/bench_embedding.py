"""embedding forward and backward against torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops


def cases(settings: Settings) -> Iterator[Case]:
    """GPT-2's tokens, and a small vocabulary whose rows repeat."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for tokens, entries in ((4096, 4096),) if settings.quick else ((1024, 50257), (4096, 4096)):
            yield embedding(settings, tokens, entries, 768, dtype)


def embedding(settings: Settings, tokens: int, entries: int, columns: int, dtype: str) -> Case:
    """Rows picked from a table, and the table's gradient, which is dense and written whole."""
    row = float(BYTES[dtype]) * columns
    read, written = 2 * tokens * row, (tokens + entries) * row
    title = f"embedding forward+backward {dtype} {tokens} of {entries} x {columns}"
    indices = np.random.default_rng(1).integers(0, entries, tokens)
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [indices, normal(entries, columns)], ops.embedding,
            lambda torch: torch.embedding, reference.embedding, gradient=normal(tokens, columns, seed=2),
            backward=True, touched=read + written,
        ),
        read + written, "B", group=f"embedding forward+backward {dtype}", dtype=dtype,
        read=read, written=written,
    )  # fmt: skip
