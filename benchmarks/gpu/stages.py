"""The parts of the check that are programs of their own: tests, and tests under a sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# One test of each op in its smallest shapes: a sanitizer makes kernels tens of times slower.
SMALL = "(matches_torch or with_residual or options) and not 2000 and not 768"
TOOLS = ("memcheck", "racecheck", "initcheck")


class Stage(NamedTuple):
    """How one part of the check went."""

    name: str
    passed: bool
    seconds: float
    summary: str


def run_program(name: str, command: list[str], root: Path, limit: float) -> Stage:
    """Runs a command for at most `limit` seconds; its last line is its summary."""
    start = time.monotonic()
    # Each kernel reports its own error, at the call that launched it.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYMODEL_CUDA_BLOCKING": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
        output, passed = done.stdout + done.stderr, done.returncode == 0
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace") + f"\nstopped after {limit:.0f} s"
        passed = False
    except OSError as error:
        output, passed = str(error), False
    lines = [line for line in output.splitlines() if line.strip()]
    if not passed:
        print("\n".join([f"--- {name}", *lines[-60:]]), flush=True)
    return Stage(name, passed, round(time.monotonic() - start, 1), lines[-1] if lines else "no output")


def run_tests(device: str, root: Path, limit: float, quick: bool) -> Stage:
    """The tests of ops and models on `device`."""
    tests = ["tests/ops/test_layer_norm.py"] if quick else ["tests/ops", "tests/models", "tests/nn"]
    workers = [] if quick else ["-n", "4"]  # several processes share the GPU
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        *workers,
        "-p",
        "no:benchmark",
        "--device",
        device,
        *tests,
    ]
    return run_program(f"tests on {device}", command, root, limit)


def sanitizer_programs(root: Path) -> Iterator[tuple[str, list[str], Path]]:
    """The op tests' small shapes under each tool of compute-sanitizer."""
    tool = shutil.which("compute-sanitizer", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
    for kind in TOOLS:
        command = [tool or "compute-sanitizer", "--tool", kind, "--error-exitcode", "9"]
        command += ["--target-processes", "all", sys.executable, "-m", "pytest", "-q", "-x"]
        command += ["-p", "no:benchmark", "--device", "cuda", "tests/ops", "-k", SMALL]
        yield kind, command, root
