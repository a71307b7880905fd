"""The report on nvcc's output: it reads what ptxas writes, and fails where a kernel spills."""

import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """\
ptxas info    : Compiling entry function '_ZN7pymodel4cuda10sum_kernelIfEEvPKT_i' for 'sm_80'
ptxas info    : Function properties for _ZN7pymodel4cuda10sum_kernelIfEEvPKT_i
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 128 bytes smem, 384 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN7pymodel4cuda10sum_kernelIfEEvPKT_i' for 'sm_90a'
ptxas info    : Function properties for _ZN7pymodel4cuda10sum_kernelIfEEvPKT_i
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 26 registers, used 1 barriers, 128 bytes smem
"""
SPILL = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"


def report(text: str, tmp_path: Path, root: Path) -> subprocess.CompletedProcess[str]:
    log = tmp_path / "build.log"
    log.write_text(text)
    command = [sys.executable, str(root / "cmake" / "kernel_report.py"), str(log)]
    return subprocess.run(command, capture_output=True, text=True)


def test_kernel_report_lists_registers_of_each_architecture(tmp_path: Path, repo_root: Path) -> None:
    done = report(GOOD, tmp_path, repo_root)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "sum_kernel" in line)
    assert row.split()[-5:] == ["24,", "26", "128", "0", "0"]
    assert "1 kernels for sm_80, sm_90a" in done.stdout


@pytest.mark.parametrize(
    "found",
    [
        "0 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads",
        SPILL.replace("0 bytes st", "40 bytes st", 1),
    ],
)
def test_kernel_report_fails_on_spills_and_stack_frames(found: str, tmp_path: Path, repo_root: Path) -> None:
    before, after = GOOD.split(SPILL, 1)
    done = report(before + found + after, tmp_path, repo_root)
    assert done.returncode == 1
    assert "FAILED: " in done.stdout
    assert "sm_80" in done.stdout.splitlines()[-1]


def test_kernel_report_of_no_kernels_is_a_failure(tmp_path: Path, repo_root: Path) -> None:
    done = report("[1/2] Building CUDA object x.o\n", tmp_path, repo_root)
    assert done.returncode == 1
    assert "names no kernel" in done.stdout
