"""The programs of small kernels that cmake/Simt.cmake builds."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pymodel import _core

Run = Callable[..., list[str]]


def program(name: str) -> Path:
    path = Path(_core.__file__).parent / name
    if not path.is_file():
        pytest.skip(f"this build of pymodel has no {name} (cmake -DPYMODEL_SIMT=ON)")
    return path


@pytest.fixture(scope="session")
def simt_tests() -> Path:
    return program("simt_tests")


@pytest.fixture(scope="session")
def run_case(simt_tests: Path) -> Run:
    """Runs a case `count` times under an order, from a seed upwards; returns one outcome a run."""

    def run(case: str, order: str = "run_ahead", seed: int = 0, count: int = 1) -> list[str]:
        command = [str(simt_tests), case, order, str(seed), str(count)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return result.stdout.splitlines()

    return run


@pytest.fixture(scope="session")
def run_sanitized() -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """Runs a case once under AddressSanitizer and UndefinedBehaviorSanitizer."""
    path = program("simt_tests_sanitized")

    def run(case: str, order: str) -> subprocess.CompletedProcess[str]:
        command = [str(path), case, order, "0", "1"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run
