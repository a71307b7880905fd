"""`pytest benchmarks/` times the cases of `pymodel bench` with pytest-benchmark; `--quick` a few of them."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option that the command has too."""
    parser.addoption("--quick", action="store_true", help="a few telling cases of each suite")
