"""How everything here is timed: a correctness gate, a warm-up, then interleaved rounds.

Contenders take turns within each round, so that a machine that slows down slows all of them. Each
turn starts with a pause and an untimed call: the OpenMP threads of the contender before it spin for
some milliseconds after their last work and would otherwise be timed too.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

PAUSE = 0.02  # seconds; longer than libgomp's default spin
Contender = Callable[[], Any]


@dataclass
class Case:
    """One comparison: the same work done by us and by others.

    `check` raises when the results disagree; nothing is timed before it has passed. `work` is what one
    call does, in `unit` (FLOP or bytes or tokens), so that rates can be quoted.
    """

    name: str
    contenders: dict[str, Contender]  # "pymodel" and its peers
    work: float
    unit: str
    check: Callable[[], None]
    bar: float = 1.0  # the ratio to the best peer that must be reached
    seconds: float = 0.15  # a turn lasts at least this long


@dataclass
class Result:
    """Seconds per call of every contender: median, 20th and 80th percentile over the rounds."""

    name: str
    unit: str
    work: float
    bar: float
    seconds: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Our rate over the best peer's."""
        peers = [median for name, (median, _, _) in self.seconds.items() if name != "pymodel"]
        return min(peers) / self.seconds["pymodel"][0]

    def rate(self, contender: str) -> float:
        """Work per second."""
        return self.work / self.seconds[contender][0]


def measure(case: Case, rounds: int = 7) -> Result:
    """Times all contenders of a case, one turn each per round."""
    case.check()
    calls = {name: _calls_per_turn(call, case.seconds) for name, call in case.contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    for _ in range(rounds):
        for name, call in case.contenders.items():
            time.sleep(PAUSE)
            call()
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            times[name].append((time.perf_counter() - start) / calls[name])
    result = Result(case.name, case.unit, case.work, case.bar)
    for name, values in times.items():
        low, high = np.percentile(values, [20, 80])
        result.seconds[name] = (statistics.median(values), float(low), float(high))
    return result


def _calls_per_turn(call: Contender, seconds: float) -> int:
    call()
    start = time.perf_counter()
    call()
    return max(1, round(seconds / (time.perf_counter() - start)))


def agree(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    """The correctness gate: largest difference relative to the largest value."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (ours, theirs))
    if a.shape != b.shape:
        raise AssertionError(f"{what}: shapes {a.shape} and {b.shape} differ")
    error = np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)
    if not error <= tolerance:
        raise AssertionError(f"{what}: results differ by {error:.2e}, allowed are {tolerance:.0e}")


def machine() -> dict[str, Any]:
    """Where and with what the figures were measured."""
    import torch

    import pymodel as pm
    from pymodel import _core

    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": pm.get_num_threads(),
        "isa": _core.isa(),
        "build": _core.build_options(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "pymodel": pm.__version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """Results as plain data, with the ratio spelled out."""
    return [{**asdict(r), "ratio": r.ratio} for r in results]


def run(cases: Iterator[Case], rounds: int, show: Callable[[Result], None]) -> list[Result]:
    """Measures case after case; each is shown as soon as it is known."""
    results = []
    for case in cases:
        results.append(measure(case, rounds))
        show(results[-1])
    return results
