"""A residual sum, and GELU with its backward, against torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops


def cases(settings: Settings) -> Iterator[Case]:
    """The feed-forward activations of GPT-2 at 4 x 256 tokens."""
    for dtype in settings.chosen("float32", "bfloat16"):
        yield add(settings, 1024, 3072, dtype)
        yield gelu(settings, 1024, 3072, dtype)


def add(settings: Settings, rows: int, columns: int, dtype: str) -> Case:
    """The sum of two tensors."""
    size = float(BYTES[dtype]) * rows * columns
    title = f"add {dtype} {rows} x {columns}"
    values = [normal(rows, columns, seed=seed) for seed in (0, 1)]
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, values, ops.add, lambda torch: torch.add,
            lambda a, b: [np.add(*reference.wide(a, b))], touched=3 * size,
        ),
        3 * size, "B", group=f"add {dtype}", dtype=dtype, flop=float(rows * columns),
        read=2 * size, written=size,
    )  # fmt: skip


def gelu(settings: Settings, rows: int, columns: int, dtype: str) -> Case:
    """GPT-2's approximation by tanh, forward and backward."""
    size = float(BYTES[dtype]) * rows * columns
    title = f"gelu forward+backward {dtype} {rows} x {columns}"
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(rows, columns)], lambda x: ops.gelu(x, "tanh"),
            lambda torch: torch.gelu, reference.gelu, gradient=normal(rows, columns, seed=1), backward=True,
            touched=5 * size,
        ),
        5 * size, "B", group=f"gelu forward+backward {dtype}", dtype=dtype, flop=60.0 * rows * columns,
        read=3 * size, written=2 * size,
    )  # fmt: skip
