"""Timing on a GPU: events around each call, caches emptied before it, contenders in turns.

Writing over a buffer larger than the second-level cache both empties that cache and keeps the GPU
busy while the host puts the call's kernels into the stream, so that a kernel is not charged for the
time that Python takes to launch it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Case, Result

FLUSH_BYTES = 256 << 20  # several times the cache of any GPU so far
Turn = Callable[[Callable[[], Any]], float]


def turn_on_gpu() -> Turn:
    """A function that runs a call once, from cold caches, and returns its seconds on the GPU."""
    scratch = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def turn(call: Callable[[], Any]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        scratch.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    return turn


def turn_on_host(call: Callable[[], Any]) -> float:
    """The same by the host's clock; whole training steps, which end by reading their loss."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(case: Case, turn: Turn, rounds: int) -> Result:
    """Median, 20th and 80th percentile of every contender, which take turns in each round."""
    contest = case.prepare()
    contest.check()
    for call in contest.contenders.values():
        for _ in range(3):
            turn(call)
    times: dict[str, list[float]] = {name: [] for name in contest.contenders}
    for _ in range(rounds):
        for name, call in contest.contenders.items():
            times[name].append(turn(call))
    result = Result(case.name, case.unit, case.work, case.bar)
    for name, values in times.items():
        low, high = np.percentile(values, [20, 80])
        result.seconds[name] = (statistics.median(values), float(low), float(high))
    return result


def ceilings() -> dict[str, float]:
    """What this very GPU does at best, through torch: bytes/s of a copy, FLOP/s of matrix products."""
    turn = turn_on_gpu()

    def best_of(call: Callable[[], Any]) -> float:
        return statistics.median(turn(call) for _ in range(9))

    def copy_rate() -> float:
        source = torch.randint(0, 255, (2 << 30,), dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        return 2 * source.numel() / best_of(lambda: target.copy_(source))

    def product_rate(size: int, dtype: torch.dtype) -> float:
        # Random numbers: products of zeros draw less power and run faster.
        a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
        return 2 * size**3 / best_of(lambda: a @ b)

    return {
        "copy, B/s read and written": copy_rate(),
        "matrix product bfloat16 8192, FLOP/s": product_rate(8192, torch.bfloat16),
        "matrix product float32 4096, FLOP/s": product_rate(4096, torch.float32),
    }
