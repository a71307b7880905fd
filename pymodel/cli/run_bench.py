"""The work behind `pymodel bench`: finds the benchmarks, which lie beside the library and not in it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pymodel
from pymodel.cli.bench import BenchOptions
from pymodel.errors import ConfigError


def bench(options: BenchOptions) -> int:
    """Runs the benchmarks; returns the command's exit code."""
    find_benchmarks()
    code: int = importlib.import_module("benchmarks.command").bench(options)
    return code


def find_benchmarks() -> None:
    """Makes the package `benchmarks` importable from where it lies.

    A checkout has it beside the library. A wheel has it inside, because a package of so common a name
    must not lie among other people's; what imports it sees no difference.
    """
    library = Path(pymodel.__file__).resolve().parent
    for folder in (library / "benchmarks", library.parent / "benchmarks"):
        if (folder / "harness.py").is_file():
            break
    else:
        raise ConfigError(
            "this installation has no benchmarks; install pymodel-lm from a wheel or a checkout"
        )
    loaded = sys.modules.get("benchmarks")
    if loaded is not None and loaded.__path__[0] == str(folder):
        return
    spec = importlib.util.spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)
