"""Texts for a command, one a line."""

from __future__ import annotations

import sys
from pathlib import Path

from pymodel.errors import DataError


def read_lines(path: str) -> list[str]:
    """The lines of a file, or of standard input for "-", without their ends; empty ones count.

    Raises: DataError for a file that cannot be read or is not in UTF-8.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror}); check --input") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: not UTF-8 at byte {problem.start}; convert it first") from None
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def pair_of(line: str, number: int) -> tuple[str, str]:
    """The two texts of a line with a tab between them; DataError, naming the line, for any other."""
    parts = line.split("\t")
    if len(parts) != 2:
        raise DataError(f"line {number}: expected two texts with a tab between them, got {len(parts)}")
    return parts[0], parts[1]
