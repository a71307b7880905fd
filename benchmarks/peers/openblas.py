"""NumPy's float32 products, which its OpenBLAS computes."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Contender


def product(a: np.ndarray, b: np.ndarray, layout: str) -> Contender:
    """matmul into memory that is there; a T of the layout says that an operand is stored transposed."""
    x, y = (stored.T if letter == "T" else stored for stored, letter in zip((a, b), layout, strict=True))
    out = np.empty((x.shape[0], y.shape[1]), dtype=np.float32)

    def call() -> list[np.ndarray]:
        return [np.matmul(x, y, out=out)]

    return call
