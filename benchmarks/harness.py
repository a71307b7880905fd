"""How everything here is timed: a correctness gate, a warm-up, then interleaved rounds.

Contenders take turns within each round, so that a machine that slows down slows all of them. Each
turn starts with a pause and an untimed call: the OpenMP threads of the contender before it spin for
some milliseconds after their last work and would otherwise be timed too.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

PAUSE = 0.02  # seconds; longer than libgomp's default spin
OPENBLAS_PAUSE = 0.12  # its threads spin for 2^26 cycles, on the cores that the next contender needs
SLOW = 1.0  # seconds; a call this long is timed at most SLOW_ROUNDS times, and needs no warm-up
SLOW_ROUNDS = 3
PEER_SLACK = 10.0  # peers may be less exact: torch adds up bfloat16 gradients of weights in bfloat16
OURS = "pymodel"
Contender = Callable[[], Any]


@dataclass
class Contest:
    """The same work, ready to be done by us and by others.

    `check` raises AssertionError when the results disagree; nothing is timed before it has passed.
    """

    contenders: dict[str, Contender]  # "pymodel" first, then its peers
    check: Callable[[], None]


@dataclass
class Case:
    """One comparison. Its data are made by `prepare`, so that cases can be listed at no cost.

    `flop`, `read` and `written` are what one call cannot do without; they place the case below the
    machine's ceilings. `work` in `unit` (FLOP, B, tokens or calls) is what rates are quoted in.
    """

    name: str
    prepare: Callable[[], Contest]
    work: float
    unit: str
    bar: float = 1.0  # our rate over the best peer's that must be reached
    group: str = ""  # the row of the summary that this case counts in
    peers: tuple[str, ...] = ("torch",)  # who can do the same
    dtype: str = "float32"
    flop: float = 0.0
    read: float = 0.0  # bytes
    written: float = 0.0  # bytes
    seconds: float = 0.05  # a turn lasts at least this long


@dataclass
class Reading:
    """A figure with a limit instead of a rate: megabytes, per cent, seconds of a whole program."""

    name: str
    unit: str
    measure: Callable[[], tuple[float, float]]  # (the figure, the most that it may be)


@dataclass
class Result:
    """Seconds per call of every contender: median, 20th and 80th percentile over the rounds."""

    name: str
    unit: str
    work: float
    bar: float
    seconds: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    group: str = ""
    dtype: str = "float32"
    flop: float = 0.0
    moved: float = 0.0  # bytes read and written
    ceiling_seconds: float | None = None  # of a call that runs at the machine's limit

    @property
    def best_peer(self) -> str | None:
        """The fastest of the others; None when there was none."""
        return min(
            (name for name in self.seconds if name != OURS), key=lambda n: self.seconds[n][0], default=None
        )

    @property
    def ratio(self) -> float | None:
        """Our rate over the best peer's."""
        peer = self.best_peer
        return None if peer is None else self.seconds[peer][0] / self.seconds[OURS][0]

    @property
    def share(self) -> float | None:
        """Our rate over that of the machine's ceiling."""
        return None if self.ceiling_seconds is None else self.ceiling_seconds / self.seconds[OURS][0]

    def rate(self, contender: str) -> float:
        """Work per second."""
        return self.work / self.seconds[contender][0]


def measure(case: Case, rounds: int = 7) -> Result:
    """Times all contenders of a case, one turn each per round.

    Raises: AssertionError when their results disagree.
    """
    contest = case.prepare()
    contest.check()
    names = list(contest.contenders)
    pause = OPENBLAS_PAUSE if "openblas" in names else PAUSE
    calls = {name: calls_per_turn(contest.contenders[name], case.seconds, pause) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds if min(calls.values()) > 0 else min(rounds, SLOW_ROUNDS)):
        first = turn % len(names)  # nobody always follows the same one
        for name in names[first:] + names[:first]:
            times[name].append(seconds_per_call(contest.contenders[name], calls[name], pause))
    result = Result(
        case.name, case.unit, case.work, case.bar, {}, case.group, case.dtype, case.flop,
        case.read + case.written,
    )  # fmt: skip
    for name, values in times.items():
        low, high = np.percentile(values, [20, 80])
        result.seconds[name] = (statistics.median(values), float(low), float(high))
    return result


def calls_per_turn(call: Contender, seconds: float, pause: float = PAUSE) -> int:
    """How many calls fill a turn; 0 stands for one of a call so long that it needs no warm-up.

    Times more and more of them until they fill half a turn: one call alone may meet what is left of the
    contender before it, and a turn of few calls would then be nothing but its own start.
    """
    time.sleep(pause)
    calls, elapsed = 1, _timed(call, 1)
    if elapsed < SLOW:
        elapsed = _timed(call, 1)  # now warm
    while calls * elapsed < seconds / 2:
        calls *= 2
        elapsed = _timed(call, calls)
    return 0 if elapsed >= SLOW else max(1, round(seconds / elapsed))


def seconds_per_call(call: Contender, calls: int, pause: float = PAUSE) -> float:
    """One turn, after a pause in which the threads of the contender before it come to rest."""
    time.sleep(pause)
    if calls:
        call()
    return _timed(call, max(calls, 1))


def _timed(call: Contender, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


# -- contenders -------------------------------------------------------------------------------------


def forward_backward(op: Callable[..., Any], inputs: Sequence[Any], gradient: Any) -> Contender:
    """A call of an op and of its backward, in our library or in torch; returns output and gradients."""
    leaves = [x for x in inputs if x.requires_grad]

    def call() -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        out = op(*inputs)
        out.backward(gradient)
        return [out, *(leaf.grad for leaf in leaves)]

    return call


def rotating(calls: Sequence[Contender]) -> Contender:
    """The calls in turn. Over data larger than the caches together, each finds its own in memory."""
    endless = itertools.cycle(calls)
    return lambda: next(endless)()


# -- the correctness gate ---------------------------------------------------------------------------


def gate(
    contenders: dict[str, Contender], truth: Callable[[], Sequence[Any]], tolerance: float, what: str
) -> Contest:
    """A contest whose contenders each return arrays that must agree with those of `truth`."""

    def check() -> None:
        expected = truth()
        for name, call in contenders.items():
            allowed = tolerance if name == OURS else PEER_SLACK * tolerance
            for part, (result, true) in enumerate(zip(call(), expected, strict=True)):
                agree(result, true, allowed, f"{what}, {name}, result {part}")

    return Contest(contenders, check)


def agree(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    """Raises AssertionError unless the largest difference is small beside the largest value."""
    a, b = as_array(ours), as_array(theirs)
    if a.shape != b.shape:
        raise AssertionError(f"{what}: shapes {a.shape} and {b.shape} differ")
    error = np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30)
    if not error <= tolerance:
        raise AssertionError(f"{what}: results differ by {error:.2e}, allowed are {tolerance:.0e}")


def as_array(x: Any) -> np.ndarray:
    """Numbers of any library as float64."""
    if hasattr(x, "detach"):
        x = x.detach()
        x = x.double().numpy() if hasattr(x, "double") else x.numpy()
    return np.asarray(x, dtype=np.float64)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as plain data, with the ratio and the share of the ceiling spelled out."""
    return [{**asdict(r), "ratio": r.ratio, "share": r.share} for r in results]
