"""Peak memory of a GPT-2 124M training step, each contender in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from benchmarks.harness import OURS, Reading
from benchmarks.models.gpt2 import GPT2_124M, SMALL, Sizes
from benchmarks.settings import Settings


def cases(settings: Settings) -> Iterator[Reading]:
    """Ours may not take more than torch; without torch there is nothing to compare."""
    if not settings.torch_models:
        return
    sizes, batch, length = (SMALL, 12, 64) if settings.quick else (GPT2_124M, 4, 256)
    for dtype in settings.chosen("float32", "bfloat16"):
        name = f"memory, peak of a {sizes.name} {dtype} step, {batch} x {length} (limit: torch's)"
        yield Reading(name, "MB", lambda dtype=dtype: compared(sizes, batch, length, dtype))  # type: ignore[misc]


def compared(sizes: Sizes, batch: int, length: int, dtype: str) -> tuple[float, float]:
    """Megabytes of ours, and of torch's."""
    ours, theirs = (peak(contender, sizes, batch, length, dtype) for contender in (OURS, "torch"))
    return ours, theirs


def peak(contender: str, sizes: Sizes, batch: int, length: int, dtype: str) -> float:
    """Resident megabytes that model, optimiser and steps took at most, without what the libraries load."""
    program = Path(__file__).with_name("peak_memory.py")
    # The folder of the benchmarks travels along: a wheel keeps them where no import finds them.
    task = [contender, astuple(sizes), batch, length, dtype, str(Path(__file__).parents[1])]
    done = subprocess.run([sys.executable, str(program), json.dumps(task)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])
