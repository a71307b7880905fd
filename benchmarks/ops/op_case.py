"""Cases of one op: our function, torch's, and the truth that both are held to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes  # noqa: F401 - makes bfloat16 a name that NumPy knows
import numpy as np

import pymodel as pm
from benchmarks.harness import OURS, Contender, Contest, forward_backward, gate, rotating
from benchmarks.settings import TOLERANCE, Settings

COLD = 256 << 20  # bytes; data sets that rotate are together larger than the caches of most processors
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Normal random numbers; never zeros, with which some machines are faster."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(scale)


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded to a storage dtype; integers as they are."""
    return values.astype(dtype) if values.dtype == np.float32 else values


def sample(extent: int, count: int) -> np.ndarray:
    """At most so many indices, from the first to the last."""
    return np.unique(np.linspace(0, extent - 1, count).astype(int))


def op_contest(
    settings: Settings,
    title: str,
    dtype: str,
    values: Sequence[np.ndarray],
    ours: Callable[..., pm.Tensor],
    theirs: Callable[[Any], Callable[..., Any]],
    truth: Callable[..., Sequence[Any]],
    *,
    gradient: np.ndarray | None = None,
    backward: bool = False,
    touched: float = math.inf,
) -> Contest:
    """The same op on the same numbers by everyone who has it.

    Args:
        settings: whose peers take part.
        title: for messages.
        dtype: the storage type of the floating values.
        values: the op's inputs, float32 or integers; all floating ones get gradients.
        ours: the op on our tensors.
        theirs: takes the module of torch's ops and gives the op on torch's tensors.
        truth: takes the rounded values, and the gradient if there is one; gives the results in float64.
        gradient: of the output, float32; None for a loss, whose gradient is 1.
        backward: whether backward is part of the work.
        touched: bytes that a call reads and writes. Where they fit into a cache, calls take turns over so
            many copies of the values that each finds its own in memory; infinite keeps one copy, in cache.
    """
    copies = max(1, math.ceil(COLD / touched))
    arrays = [stored(v, dtype) for v in values]
    incoming = [] if gradient is None else [stored(gradient, dtype)]

    def side(tensor: Callable[[np.ndarray, bool], Any], op: Callable[..., Any]) -> Contender:
        dy = tensor(incoming[0], False) if incoming else None
        return rotating([_call(op, [tensor(a.copy(), backward) for a in arrays], dy, backward)
                         for _ in range(copies)])  # fmt: skip

    contenders = {OURS: side(_tensor, ours)}
    if "torch" in settings.peers:
        from benchmarks.peers import torch_ops

        contenders["torch"] = side(torch_ops.tensor, theirs(torch_ops))
    return gate(contenders, lambda: truth(*arrays, *incoming), TOLERANCE[dtype], title)


def _tensor(array: np.ndarray, requires_grad: bool) -> pm.Tensor:
    shared = pm.from_numpy(array)
    return shared.requires_grad_(requires_grad and array.dtype.kind != "i")


def _call(op: Callable[..., Any], inputs: Sequence[Any], dy: Any, backward: bool) -> Contender:
    return forward_backward(op, inputs, dy) if backward else lambda: [op(*inputs)]
