"""Runs the command line, in this process or, as a user does, in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pymodel.cli.main import main

REPOSITORY = Path(__file__).resolve().parent.parent

# Small enough that most of the time goes into starting Python.
SMALL = [
    *("--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--seq-len", "16", "--batch-size", "2"),
    *("--vocab-size", "300", "--device", "cpu", "--dtype", "float32", "--seed", "1", "--dropout", "0.1"),
]
TEXT = "the quick brown fox jumps over the lazy dog and the cat looks on\n"


@dataclass
class Result:
    """What a command did."""

    code: int
    stdout: str
    stderr: str


def command(*words: object) -> list[str]:
    """The words that start a pymodel command in a process of its own."""
    return [sys.executable, "-m", "pymodel", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """The environment for that process: this checkout, not an installed package."""
    # One thread: on tensors as small as here, several would only wait for each other.
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100", "OMP_NUM_THREADS": "1", **more}


def run(*words: object, code: int = 0, given: str = "") -> Result:
    """Runs a command in this process; it must end with `code`.

    Args:
        words: of the command line.
        code: expected exit code; with 2 the last line on stderr must be the only one that says error.
        given: standard input.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("sys.stdin", io.StringIO(given)),
        mock.patch.dict(os.environ, COLUMNS="100"),
    ):
        try:
            ended = main([str(word) for word in words])
        except SystemExit as stop:  # the option parser's --help
            ended = int(stop.code or 0)
    return _checked(Result(ended, out.getvalue(), err.getvalue()), code)


def run_process(*words: object, code: int = 0, **more: str) -> Result:
    """Runs a command in a process of its own, with environment variables; otherwise as `run`."""
    done = subprocess.run(
        command(*words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(**more),
    )
    return _checked(Result(done.returncode, done.stdout, done.stderr), code)


def _checked(result: Result, code: int) -> Result:
    assert "Traceback" not in result.stderr, result.stderr
    assert result.code == code, result.stderr
    if code == 2:
        lines = result.stderr.splitlines()
        assert [line for line in lines if "error" in line] == lines[-1:]
        assert lines[-1].startswith("pymodel: error: ")
    return result


def write_corpus(folder: Path) -> Path:
    """A text file that a small model can learn from."""
    path = folder / "text.txt"
    path.write_text("".join(f"{number} {TEXT}" for number in range(200)))
    return path
