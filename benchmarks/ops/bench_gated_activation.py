"""gated_activation forward+backward against torch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops


def cases(settings: Settings) -> Iterator[Case]:
    """The hidden widths of SmolLM2 135M and of Llama 7B."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for rows, columns in ((4096, 1536),) if settings.quick else ((4096, 1536), (1024, 11008)):
            yield swiglu(settings, rows, columns, dtype)


def swiglu(settings: Settings, rows: int, columns: int, dtype: str) -> Case:
    """With SiLU."""
    size = float(BYTES[dtype]) * rows * columns
    title = f"gated_activation forward+backward {dtype} {rows} x {columns}"
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(rows, columns), normal(rows, columns, seed=1)],
            ops.gated_activation, lambda torch: torch.swiglu, reference.swiglu,
            gradient=normal(rows, columns, seed=2), backward=True, touched=8 * size,
        ),
        8 * size, "B", group=f"gated_activation forward+backward {dtype}", dtype=dtype,
        flop=30.0 * rows * columns, read=5 * size, written=3 * size,
    )  # fmt: skip
