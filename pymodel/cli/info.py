"""`pymodel info`: what this installation runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

import pymodel
from pymodel import _core
from pymodel.cli.options import parse

DESCRIPTION = """Show what this installation runs on: instruction set, threads, devices, versions, build.

examples:
  pymodel info
  PYMODEL_CPU_ISA=avx2 pymodel info      try the kernels of another instruction set
  OMP_NUM_THREADS=1 pymodel info         use fewer threads
"""
_PACKAGES = ("numpy", "ml_dtypes", "safetensors", "tokenizers", "rich", "tyro", "matplotlib")


@dataclass
class InfoOptions:
    """`pymodel info` has no options."""


def run(words: Sequence[str]) -> None:
    """Prints the table."""
    parse(InfoOptions, "info", DESCRIPTION, words)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows():
        table.add_row(name, value)
    Console().print(table, highlight=False)


def rows() -> list[tuple[str, str]]:
    """What the table says, as (name, value)."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    forced = os.environ.get("PYMODEL_CPU_ISA")
    why = f"forced by PYMODEL_CPU_ISA; {_core.detected_isa()} detected" if forced else "the best detected"
    return [
        ("pymodel", f"{pymodel.__version__} in {os.path.dirname(pymodel.__file__)}"),
        ("instruction set", f"{_core.isa()} ({why})"),
        ("processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores for this process"),
        (
            "threads",
            f"{pymodel.get_num_threads()} (OMP_NUM_THREADS: {threads})",
        ),
        ("memory", _memory()),
        ("GPU", _gpu()),
        ("build", _core.build_options()),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, _version(name)) for name in _PACKAGES),
    ]


def _gpu() -> str:
    cuda = pymodel.cuda
    if not cuda.is_available():
        return f"none: {cuda.why_unavailable()}"
    names = [f"cuda:{index}" for index in range(cuda.device_count())]
    return "; ".join(
        f"{name} {cuda.get_device_name(name)}, {cuda.mem_get_info(name)[1] / (1 << 30):.0f} GiB"
        for name in names
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    page, gibibyte = os.sysconf("SC_PAGE_SIZE"), 1 << 30
    total = os.sysconf("SC_PHYS_PAGES") * page / gibibyte
    free = os.sysconf("SC_AVPHYS_PAGES") * page / gibibyte
    return f"{total:.1f} GiB, {free:.1f} GiB free"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (optional: pip install 'pymodel-lm[plot]')"
