"""Runs kernels of the emulated device under many orders of their threads: bits must not depend on them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from pymodel import _core

# What csrc/simt/schedule.h says of each: some warp far ahead of the others finds missing barriers.
ORDERS = ("round_robin", "reverse", "random", "run_ahead", "lag_behind")


@contextmanager
def schedule(order: str, seed: int = 0) -> Iterator[None]:
    """Every launch inside runs in this order, drawn from this seed."""
    _core.simt_set_schedule(order, seed)
    try:
        yield
    finally:
        _core.simt_set_schedule("default", 0)


def run_under_orders(compute: Callable[[], Sequence[np.ndarray]], seeds: int = 3) -> list[np.ndarray]:
    """The arrays that `compute` returns, after showing that each order and seed gives the same bits.

    `compute` starts from the same inputs each time and returns copies on the host.
    """
    expected: list[np.ndarray] = []
    for order in ORDERS:
        for seed in range(seeds):
            with schedule(order, seed):
                results = list(compute())
            expected = expected or results
            assert len(results) == len(expected)
            for index, (result, first) in enumerate(zip(results, expected, strict=True)):
                assert result.tobytes() == first.tobytes(), f"result {index} differs: {order}, seed {seed}"
    return expected
