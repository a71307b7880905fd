"""`make gpu-check` in rehearsal: every stage's code runs, and every kernel it times agrees with torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from pymodel import _core


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(_core, "simt_set_schedule"), reason="built without the emulator")
def test_gpu_check_rehearses_on_the_emulator(repo_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo_root)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "attention" in done.stdout
    assert "FAILED" not in done.stdout
    assert " 0 failed, 0 skipped" in done.stdout
    assert not list(tmp_path.iterdir()), "a rehearsal leaves no figures behind"
