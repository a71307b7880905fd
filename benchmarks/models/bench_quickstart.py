"""`pymodel quickstart`: bits per byte on its held-out files against gzip -9, inside three minutes."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.harness import Reading
from benchmarks.settings import Settings

SECONDS = 180.0


def cases(settings: Settings) -> Iterator[Reading]:
    """Both figures come from one run."""
    run = functools.cache(quickstart)
    yield Reading("quickstart, bits per byte (limit: gzip -9)", "bits", lambda: run()[:2])
    yield Reading("quickstart, start to end", "s", lambda: (run()[2], SECONDS))


def quickstart() -> tuple[float, float, float]:
    """(the model's bits per byte, gzip's, seconds)."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pymodel", "quickstart", "--out", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    model, packed = (
        float(re.search(rf"^ *{name} +([\d.]+)", done.stdout, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("this model", "gzip -9")
    )
    return model, packed, seconds
