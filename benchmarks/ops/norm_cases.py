"""What the cases of layer_norm and rms_norm share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pymodel as pm
from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops

SHAPES = [(1024, 768), (8192, 768), (2048, 4096)]  # GPT-2 small at two batches, a large model
FLOP = {False: 8.0, True: 24.0}  # of an element, about: memory is what bounds them


def norm_cases(settings: Settings, name: str) -> Iterator[Case]:
    """Every shape, forward alone and with backward, from memory."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for rows, columns in SHAPES[1:2] if settings.quick else SHAPES:
            for backward in (False, True):
                yield norm_case(settings, name, rows, columns, dtype, backward)


def norm_case(settings: Settings, name: str, rows: int, columns: int, dtype: str, backward: bool) -> Case:
    """`name` is layer_norm, with weight and bias, or rms_norm, with a weight."""
    size = float(BYTES[dtype]) * rows * columns
    read, written = (3 * size, 2 * size) if backward else (size, size)
    passes = "forward+backward" if backward else "forward"
    title = f"{name} {passes} {dtype} {rows} x {columns}"
    parameters = [normal(columns, seed=seed) for seed in range(1, 3 if name == "layer_norm" else 2)]
    ours: Callable[..., pm.Tensor] = getattr(ops, name)

    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(rows, columns), *parameters], ours,
            lambda torch: getattr(torch, name), getattr(reference, name),
            gradient=normal(rows, columns, seed=3) if backward else None,
            backward=backward, touched=read + written,
        ),
        read + written, "B", bar=2.0 if backward else 1.0, group=f"{name} {passes} {dtype}", dtype=dtype,
        flop=FLOP[backward] * rows * columns, read=read, written=written,
    )  # fmt: skip
