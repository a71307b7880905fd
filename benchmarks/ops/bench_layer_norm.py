"""layer_norm forward and forward+backward against torch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Case
from benchmarks.ops.norm_cases import norm_cases
from benchmarks.settings import Settings


def cases(settings: Settings) -> Iterator[Case]:
    """Widths of GPT-2 small and of a large model."""
    yield from norm_cases(settings, "layer_norm")
