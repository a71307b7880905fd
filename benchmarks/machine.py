"""Where and with what figures were measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("torch", "transformers")


def machine() -> dict[str, Any]:
    """The processor, the threads in use, versions and commit."""
    import pymodel as pm
    from pymodel import _core

    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": pm.get_num_threads(),
        "isa": _core.isa(),
        "build": _core.build_options(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: version for name in PACKAGES if (version := _version(name))},
        "pymodel": pm.__version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def json_file(path: Path, where: dict[str, Any]) -> Path:
    """The file itself; in a folder, one named after processor, instruction set and date."""
    if not path.is_dir():
        return path
    words = re.findall(r"[a-z0-9]+", re.sub(r"\(\w+\)|processor|cpu|@.*", "", where["cpu"].lower()))
    return path / f"cpu-{'-'.join([*words, where['isa'], where['date']])}.json"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """Of the checkout that holds this file; an installed package has none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
