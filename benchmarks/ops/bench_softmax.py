"""softmax forward and forward+backward against torch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops


def cases(settings: Settings) -> Iterator[Case]:
    """Rows of attention scores and of a small vocabulary."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for rows, columns in ((12288, 1024),) if settings.quick else ((12288, 1024), (2048, 8192)):
            for backward in (False, True):
                yield softmax(settings, rows, columns, dtype, backward)


def softmax(settings: Settings, rows: int, columns: int, dtype: str, backward: bool) -> Case:
    """Over the last dimension."""
    size = float(BYTES[dtype]) * rows * columns
    read, written = (3 * size, 2 * size) if backward else (size, size)
    passes = "forward+backward" if backward else "forward"
    title = f"softmax {passes} {dtype} {rows} x {columns}"
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(rows, columns)], lambda x: ops.softmax(x, -1),
            lambda torch: torch.softmax, reference.softmax,
            gradient=normal(rows, columns, seed=1) if backward else None, backward=backward,
            touched=read + written,
        ),
        read + written, "B", group=f"softmax {passes} {dtype}", dtype=dtype,
        flop=(14.0 if backward else 10.0) * rows * columns, read=read, written=written,
    )  # fmt: skip
