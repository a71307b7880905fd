"""What a call costs outside its kernel: ops on tiny tensors beside torch, and the share of a small step."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

import pymodel as pm
from benchmarks import reference
from benchmarks.harness import Case, Reading
from benchmarks.models.bench_train import our_step
from benchmarks.models.gpt2 import SMALL, Sizes, random_tokens, shared_weights
from benchmarks.ops.op_case import normal, op_contest
from benchmarks.settings import Settings
from pymodel import _core, ops

ROWS, COLUMNS = 4, 8
STEPS = 41
MOST_OUTSIDE = 10.0  # per cent


def cases(settings: Settings) -> Iterator[Case | Reading]:
    """Forward calls, one with its backward, and a whole training step."""
    if settings.chosen("float32"):
        x, w, b = normal(ROWS, COLUMNS), normal(COLUMNS, COLUMNS, seed=1), normal(COLUMNS, seed=2)
        heads = [normal(1, ROWS, 1, COLUMNS, seed=seed) for seed in range(3)]
        yield tiny(settings, "add", [x, x], ops.add, lambda torch: torch.add, lambda a, c: [a + c])
        yield tiny(settings, "linear", [x, w, b], ops.linear, lambda torch: torch.linear, linear)
        yield tiny(
            settings, "layer_norm", [x, b, b], ops.layer_norm, lambda torch: torch.layer_norm,
            reference.layer_norm,
        )  # fmt: skip
        yield tiny(
            settings, "attention", heads, ops.attention, lambda torch: torch.attention(False, None),
            lambda q, k, v: reference.attention(q, k, v, False, np.array([ROWS])),
        )  # fmt: skip
        yield tiny(
            settings, "linear", [x, w, b], ops.linear, lambda torch: torch.linear, linear,
            gradient=normal(ROWS, COLUMNS, seed=3),
        )  # fmt: skip
    for dtype in settings.chosen("float32", "bfloat16"):
        name = f"overhead, share of a {SMALL.name} {dtype} step outside kernels"
        yield Reading(name, "%", lambda dtype=dtype: (share_outside(SMALL, 12, 64, dtype), MOST_OUTSIDE))  # type: ignore[misc]


def tiny(
    settings: Settings,
    op: str,
    values: list[np.ndarray],
    ours: Callable[..., pm.Tensor],
    theirs: Callable[[Any], Callable[..., Any]],
    truth: Callable[..., list[Any]],
    gradient: np.ndarray | None = None,
) -> Case:
    """One call on a tensor of a few numbers, so that nearly all of its time is not arithmetic."""
    backward = gradient is not None
    title = f"overhead of {op}{' forward+backward' if backward else ''}, {ROWS} x {COLUMNS}"

    def prepare() -> Any:
        return op_contest(
            settings, title, "float32", values, ours, theirs, truth, gradient=gradient, backward=backward
        )

    return Case(title, prepare, 1.0, "calls", group="overhead of a call", seconds=0.02)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, dy: np.ndarray | None = None) -> list[np.ndarray]:
    """x w^T + b and its gradients."""
    x, w, b = reference.wide(x, w, b)
    y = x @ w.T + b
    return [y] if dy is None else [y, dy @ w, dy.T @ x, dy.sum(0)]


def share_outside(sizes: Sizes, batch: int, length: int, dtype: str) -> float:
    """Per cent of a training step that passes in no function of the compiled module."""
    model, _ = shared_weights(sizes, dtype, None)
    step = our_step(model, random_tokens(sizes, batch, length))
    step()
    shares = []
    for _ in range(STEPS):
        # Both times from neighbouring steps, as steps a second apart differ by more than the share;
        # whole steps without the clocks, which take a tenth of it.
        start = time.perf_counter()
        step()
        before = time.perf_counter() - start
        with clocked() as spent:
            step()
        start = time.perf_counter()
        step()
        whole = (before + time.perf_counter() - start) / 2
        shares.append(1.0 - sum(spent) / whole)
    return 100.0 * max(0.0, statistics.median(shares))


@contextlib.contextmanager
def clocked() -> Iterator[list[float]]:
    """Puts a clock around every function of the compiled module; gives the seconds of each call."""
    spent: list[float] = []

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent.append(time.perf_counter() - start)

        return call

    functions = {name: value for name, value in vars(_core).items() if type(value) is type(_core.isa)}
    with mock.patch.dict(vars(_core), {name: around(value) for name, value in functions.items()}):
        yield spent
