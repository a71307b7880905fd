"""What the machine does at best, measured in the run whose figures are held against it.

Multiply-adds on registers bound arithmetic; a copy and a read of buffers larger than the caches bound
the traffic with memory. The best of a few passes counts: a ceiling is what nothing gets above.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pymodel as pm
from benchmarks.harness import Case
from pymodel import _core

BUFFER = 64 << 20  # float32 elements: 256 MiB, more than the caches of most processors
PASSES = 5
TURN = 0.02  # seconds of multiply-adds in one pass


@dataclass(frozen=True)
class Ceilings:
    """FLOP/s by dtype of the operands; bytes/s read and written by a copy, and read by a sum."""

    threads: int
    float32: float
    bfloat16: float
    copy: float
    read: float

    def seconds(self, case: Case) -> float | None:
        """How long a call of the case would take at the machine's limit; None where none is known."""
        # 16-bit floats other than bfloat16 are widened: no instruction set here multiplies them.
        arithmetic = case.flop / (self.bfloat16 if case.dtype == "bfloat16" else self.float32)
        # Who hardly writes is bound by reading alone.
        mostly_read = case.read > 8 * case.written
        traffic = (case.read + case.written) / (max(self.read, self.copy) if mostly_read else self.copy)
        return max(arithmetic, traffic) or None

    def as_json(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.threads} thread{'s' if self.threads > 1 else ''}: "
            f"float32 {self.float32 / 1e9:,.0f} GFLOP/s, bfloat16 {self.bfloat16 / 1e9:,.0f} GFLOP/s, "
            f"copy {self.copy / 1e9:.1f} GB/s, read {self.read / 1e9:.1f} GB/s"
        )


class CeilingProbe:
    """Measures ceilings as often as asked; holds the buffers meanwhile."""

    def __init__(self) -> None:
        # Numbers that compress to nothing: no page is shared, no line of zeros is special.
        self._source = pm.rand((BUFFER,))._array
        self._target = pm.rand((BUFFER,))._array

    def measure(self, threads: int | None = None) -> Ceilings:
        """With the threads in use, or with as many as said."""
        before = pm.get_num_threads()
        pm.set_num_threads(threads or before)
        try:
            float32, bfloat16 = _products("float32"), _products("bfloat16")
            # A matrix unit for bfloat16 multiplies float32 in six products (csrc/cpu/tile_split.h).
            if _core.isa() == "amx_bf16":
                float32 = max(float32, bfloat16 / 6)
            return Ceilings(
                pm.get_num_threads(),
                float32,
                max(float32, bfloat16),  # where its instructions are slower, one widens
                2 * self._source.nbytes / _best(_core.ceiling_copy, self._source, self._target),
                self._source.nbytes / _best(_core.ceiling_read, self._source),
            )
        finally:
            pm.set_num_threads(before)


def _products(dtype: str) -> float:
    steps = 1000
    while (elapsed := _seconds(_core.ceiling_products, dtype, steps)) < TURN:
        steps = int(steps * min(10.0, 1.2 * TURN / elapsed)) + 1
    return _core.ceiling_products(dtype, steps) / _best(_core.ceiling_products, dtype, steps)


def _best(call: Callable[..., object], *arguments: object) -> float:
    return min(_seconds(call, *arguments) for _ in range(PASSES))


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start
