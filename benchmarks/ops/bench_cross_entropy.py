"""Cross-entropy forward and backward against torch, over GPT-2's vocabulary and a small one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import reference
from benchmarks.harness import Case
from benchmarks.ops.op_case import BYTES, normal, op_contest
from benchmarks.settings import Settings
from pymodel import ops


def cases(settings: Settings) -> Iterator[Case]:
    """A batch of 4 x 256 tokens of GPT-2, and of 12 x 64 of a small model."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for rows, classes in ((768, 4096),) if settings.quick else ((1024, 50257), (768, 4096)):
            yield cross_entropy(settings, rows, classes, dtype)
        rows, classes, width = (768, 4096, 128) if settings.quick else (256, 50257, 768)
        yield linear_cross_entropy(settings, rows, classes, width, dtype)


def cross_entropy(settings: Settings, rows: int, classes: int, dtype: str) -> Case:
    """The mean loss, and the gradient of the logits."""
    size = float(BYTES[dtype]) * rows * classes
    title = f"cross_entropy forward+backward {dtype} {rows} x {classes}"
    targets = np.random.default_rng(1).integers(0, classes, rows)
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(rows, classes), targets], ops.cross_entropy,
            lambda torch: torch.cross_entropy, reference.cross_entropy, backward=True, touched=3 * size,
        ),
        3 * size, "B", bar=2.0, group=f"cross_entropy forward+backward {dtype}", dtype=dtype,
        flop=12.0 * rows * classes, read=2 * size, written=size,
    )  # fmt: skip


def linear_cross_entropy(settings: Settings, rows: int, classes: int, width: int, dtype: str) -> Case:
    """The same of the logits of an output head, and the gradients of its input and its weight."""
    size = float(BYTES[dtype])
    flop = 3 * 2.0 * rows * classes * width
    title = f"linear_cross_entropy forward+backward {dtype} {rows} x {width} to {classes}"
    targets = np.random.default_rng(1).integers(0, classes, rows)
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(rows, width), normal(classes, width, scale=0.1, seed=1), targets],
            ops.linear_cross_entropy, lambda torch: torch.linear_cross_entropy,
            reference.linear_cross_entropy, backward=True,
        ),
        flop, "FLOP", group=f"linear_cross_entropy {dtype}", dtype=dtype, flop=flop,
        read=2 * size * (rows + classes) * width, written=size * (rows + classes) * width,
    )  # fmt: skip
