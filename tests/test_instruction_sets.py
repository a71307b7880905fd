"""Every build of the CPU kernels that this machine can run passes the tests of the ops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pymodel import _core

ORDER = ["generic", "avx2", "avx512", "avx512_bf16", "amx_bf16"]
TESTS = Path(__file__).parent


def run(arguments: list[str], isa: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYMODEL_CPU_ISA": isa}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=TESTS.parent
    )


@pytest.mark.parametrize("isa", ORDER)
def test_ops_pass_with_forced_instruction_set(isa: str) -> None:
    if ORDER.index(isa) > ORDER.index(_core.detected_isa()):
        pytest.skip(f"this machine has no {isa}; the best it has is {_core.detected_isa()}")
    if isa == _core.isa():
        pytest.skip(f"{isa} is in use: the op tests of this very run cover it")
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--device", "cpu"]
    done = run(["-m", "pytest", *options, str(TESTS / "ops")], isa)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_forced_instruction_set_is_the_one_in_use() -> None:
    done = run(["-c", "from pymodel import _core; print(_core.isa())"], "generic")
    assert done.stdout.strip() == "generic", done.stderr


def test_unknown_instruction_set_is_an_error_at_import() -> None:
    done = run(["-c", "import pymodel"], "sse9")
    assert done.returncode != 0
    assert "PYMODEL_CPU_ISA=sse9: expected generic, avx2, avx512, avx512_bf16 or amx_bf16" in done.stderr
