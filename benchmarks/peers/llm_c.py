"""llm.c's CPU trainer as a contender: a process that runs only while it is its turn.

It prints a line when a step is done. Between turns it is stopped by a signal, so that it takes nothing from
the others. Built by `make train_gpt2` in a checkout with its model and data; nothing is fetched here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path

import pymodel as pm
from pymodel.errors import DataError

STEP = re.compile(r"step \d+: train loss ([\d.]+|-?nan)")


def trainer(folder: Path) -> Callable[[], list[float]]:
    """A call that lets the trainer do one step and returns its loss.

    Raises: DataError, from the call, when the program ends or prints no loss.
    """
    started: list[subprocess.Popen[str]] = []

    def step() -> list[float]:
        if not started:
            started.append(_start(folder))
            weakref.finalize(step, _end, started[0])
        process = started[0]
        assert process.stdout is not None
        process.send_signal(signal.SIGCONT)
        last = "no output"
        for last in process.stdout:
            found = STEP.match(last)
            if found:
                process.send_signal(signal.SIGSTOP)
                return [float(found.group(1))]
        raise DataError(f"{folder}/train_gpt2 ended: {last.strip()}")

    return step


def _start(folder: Path) -> subprocess.Popen[str]:
    # Line by line: a pipe would otherwise be filled before anything is seen.
    return subprocess.Popen(
        ["stdbuf", "-oL", "./train_gpt2"], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": str(pm.get_num_threads())},
    )  # fmt: skip


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
