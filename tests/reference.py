"""Comparison with torch: float64 is the truth, torch in the same dtype the yardstick.

A result passes when its largest error against float64 is at most twice torch's, plus one rounding
of the largest value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

import pymodel as pm

TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def to_torch(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """A torch leaf with the values of a NumPy array of any of our dtypes."""
    return torch.tensor(np.asarray(array, dtype=np.float64)).to(dtype)


def to_float64(value: pm.Tensor | torch.Tensor | np.ndarray) -> np.ndarray:
    """The values of a tensor of either library in float64."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(torch.float64).numpy()
    return np.asarray(value.numpy() if isinstance(value, pm.Tensor) else value).astype(np.float64)


def gradient_of(leaf: pm.Tensor) -> pm.Tensor:
    """The gradient that a leaf was given."""
    assert leaf.grad is not None, "no gradient arrived"
    return leaf.grad


def assert_as_good_as_torch(
    ours: object, same: object, exact: object, dtype: str, what: str = "result"
) -> None:
    """`ours` against torch in the same dtype (`same`) and in float64 (`exact`)."""
    a, b, truth = (to_float64(v) for v in (ours, same, exact))
    assert a.shape == truth.shape, f"{what}: shape {a.shape}, expected {truth.shape}"
    if truth.size == 0:
        return
    assert np.isfinite(a).all() or not np.isfinite(truth).all(), f"{what}: holds NaN or infinity"
    _check_errors(dtype, what, *_largest(a, b, truth))


def _largest(ours: np.ndarray, same: np.ndarray, exact: np.ndarray) -> tuple[float, float, float]:
    """The largest error of ours and of torch, and the largest value."""
    return np.abs(ours - exact).max(), np.abs(same - exact).max(), np.abs(exact).max()


def _check_errors(dtype: str, what: str, error: float, yardstick: float, largest: float) -> None:
    bound = 2 * yardstick + EPSILON[dtype] * largest
    assert error <= bound, f"{what}: error {error:.3e} exceeds {bound:.3e} (torch {yardstick:.3e})"


class Draws:
    """The errors of several draws of data, of which the usual one is held against the bound.

    On models this small the largest error of a single draw is a matter of luck, torch's as much as ours.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[float, float, float]]] = {}

    def add(self, name: str, ours: object, same: object, exact: object) -> None:
        """Takes a result, that of torch in the same dtype, and the truth."""
        errors = _largest(*(to_float64(value) for value in (ours, same, exact)))
        self._found.setdefault(name, []).append(errors)

    def check(self, dtype: str = "float32") -> None:
        for name, errors in self._found.items():
            _check_errors(dtype, name, *np.median(errors, axis=0))


def check_op(
    ours: Callable[..., pm.Tensor],
    theirs: Callable[..., torch.Tensor],
    inputs: Sequence[np.ndarray],
    dtype: str,
    *,
    grad: bool = True,
    seed: int = 0,
) -> None:
    """Runs an op forward and backward in both libraries on the same values, rounded to `dtype`.

    The gradient that goes in is random, so that no error cancels; every input's gradient is compared.
    """
    values = [pm.tensor(x, dtype=dtype) for x in inputs]
    leaves = [pm.tensor(x, requires_grad=grad) for x in values]
    out = ours(*leaves)
    rng = np.random.default_rng(seed)
    incoming = pm.tensor(rng.standard_normal(out.shape), dtype=dtype)
    if grad:
        out.backward(incoming)
    results = {}
    for torch_dtype in (TORCH_DTYPES[dtype], torch.float64):
        torch_leaves = [to_torch(x.numpy(), torch_dtype).requires_grad_(grad) for x in values]
        torch_out = theirs(*torch_leaves)
        if grad:
            torch_out.backward(to_torch(incoming.numpy(), torch_dtype))
        results[torch_dtype] = (torch_out, [x.grad for x in torch_leaves])
    same, exact = results[TORCH_DTYPES[dtype]], results[torch.float64]
    assert_as_good_as_torch(out, same[0], exact[0], dtype, "output")
    if grad:
        for i, leaf in enumerate(leaves):
            assert leaf.grad is not None, f"input {i} got no gradient"
            assert_as_good_as_torch(leaf.grad, same[1][i], exact[1][i], dtype, f"gradient of input {i}")
