"""Figures with a fixed limit instead of a peer: import time, package size, pages mapped once warm."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np


def limits() -> dict[str, tuple[float, float, str]]:
    """(measured, limit, unit) by name."""
    return {
        "import pymodel": (import_seconds(), 0.3, "s"),
        "compiled module, compressed as in a wheel": (module_megabytes(), 15.0, "MB"),
        "system allocations in ten warm training steps": (warm_allocations(), 0.0, "calls"),
    }


def import_seconds() -> float:
    """Median of nine fresh interpreters, less what an empty one takes."""

    def once(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    empty = np.median([once("pass") for _ in range(9)])
    return float(np.median([once("import pymodel") for _ in range(9)]) - empty)


def module_megabytes() -> float:
    """The compiled module dominates the wheel; the Python files are a few hundred kilobytes."""
    import tempfile

    from pymodel import _core

    module = Path(_core.__file__)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "module.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.write(module, module.name)
        return archive.stat().st_size / 1e6


def warm_allocations() -> float:
    """How often ten steps of a small GPT-2 ask the system for memory after five warm-up steps."""
    import pymodel as pm
    from pymodel.models import GPT2Config, GPT2LMHeadModel

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
