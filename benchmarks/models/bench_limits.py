"""Figures with a fixed limit instead of a peer: import time, package size, memory mapped once warm."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import pymodel as pm
from benchmarks.harness import Reading
from benchmarks.models.gpt2 import GPT2_124M
from benchmarks.settings import Settings
from pymodel import _core
from pymodel.models import GPT2Config, GPT2LMHeadModel


def cases(settings: Settings) -> Iterator[Reading]:
    """What a user waits for or pays for once."""
    yield Reading("import pymodel", "s", lambda: (import_seconds(3 if settings.quick else 9), 0.3))
    if not settings.quick:
        yield Reading(
            "GPT-2 124M, from process start to first token", "s", lambda: (first_token_seconds(5), 1.0)
        )
    yield Reading("compiled module, compressed as in a wheel", "MB", lambda: (module_megabytes(), 15.0))
    yield Reading("system allocations in ten warm training steps", "calls", lambda: (warm_allocations(), 0.0))


def import_seconds(repeats: int) -> float:
    """Median of so many fresh interpreters, less what an empty one takes.

    From bytecode, which pip makes when it installs: a source tree has none where an environment forbids it.
    """
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def once(code: str) -> float:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            return time.perf_counter() - start

        once("import pymodel")  # compiles
        empty = statistics.median(once("pass") for _ in range(repeats))
        return statistics.median(once("import pymodel") for _ in range(repeats)) - empty


FIRST_TOKEN = """
import sys
from pymodel.models import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained(sys.argv[1]).generate([[1, 2, 3]], max_new_tokens=1)
"""


def first_token_seconds(repeats: int) -> float:
    """Median of so many fresh interpreters that load 500 MB of float32 weights from a warm file cache."""
    with tempfile.TemporaryDirectory() as folder:
        GPT2LMHeadModel(GPT2_124M.config()).save_pretrained(folder)
        seconds = []
        for _ in range(1 + repeats):  # the first one warms the cache
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", FIRST_TOKEN, folder], check=True)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def module_megabytes() -> float:
    """The compiled module dominates the wheel; the Python files are a few hundred kilobytes."""
    module = Path(_core.__file__)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "module.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.write(module, module.name)
        return archive.stat().st_size / 1e6


def warm_allocations() -> float:
    """How often ten steps of a small GPT-2 ask the system for memory after five warm-up steps."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=512, n_positions=64, n_embd=64, n_layer=2, n_head=2))
    model.train()
    optimizer = pm.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = np.random.default_rng(0).integers(0, 512, (4, 64))

    def step() -> None:
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(5):
        step()
    before = pm.memory_stats()["system_allocations"]
    for _ in range(10):
        step()
    return float(pm.memory_stats()["system_allocations"] - before)
