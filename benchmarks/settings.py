"""What a run is told: peers, dtypes, size; shared by every suite."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

DTYPES = ("float32", "bfloat16", "float16")
# Of the largest difference beside the largest value, from results in float64.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 4e-3}


@dataclass(frozen=True)
class Settings:
    """`quick` asks each suite for a few telling cases only."""

    peers: frozenset[str] = frozenset()
    dtypes: tuple[str, ...] = DTYPES
    quick: bool = False
    llm_c: Path | None = None

    def chosen(self, *dtypes: str) -> list[str]:
        """Those of a suite's dtypes that are wanted."""
        return [dtype for dtype in dtypes if dtype in self.dtypes]

    @property
    def torch_models(self) -> bool:
        """Whether torch runs whole models beside us: it does so with those of transformers."""
        return "torch" in self.peers and importlib.util.find_spec("transformers") is not None
