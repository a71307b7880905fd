"""rms_norm against torch: options, odd widths, the fused residual and its two gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import check_op

import pymodel as pm
from pymodel import nn, ops


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "shape",
    [(4, 1), (3, 5, 7), (1, 768), (70, 129), (300, 40)],  # one column; odd; one row; a tail; several chunks
)
def test_rms_norm_matches_torch(shape: tuple[int, ...], dtype: str) -> None:
    columns = shape[-1]
    check_op(
        ops.rms_norm,
        lambda x, w: F.rms_norm(x, (columns,), w, 1e-6),
        [draw(*shape) * 3 + 1, draw(columns)],
        dtype,
    )


def test_rms_norm_without_weight() -> None:
    check_op(
        lambda x: ops.rms_norm(x, None, 1e-3),
        lambda x: F.rms_norm(x, (50,), None, 1e-3),
        [draw(6, 50)],
        "float32",
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("uses", ["both", "output", "sum"])
def test_rms_norm_with_residual(uses: str, dtype: str) -> None:
    def combine(y, s):
        return {"both": lambda: y * y + s, "output": lambda: y * 2.0, "sum": lambda: s * 2.0}[uses]()

    def theirs(x, w, r):
        s = x + r
        return combine(F.rms_norm(s, (40,), w, 1e-6), s) + w * 0.0

    def ours(x, w, r):
        return combine(*ops.rms_norm(x, w, residual=r)) + w * 0.0

    check_op(ours, theirs, [draw(9, 40), draw(40), draw(9, 40, seed=2)], dtype)


def test_rms_norm_of_a_row_of_zeros_is_zeros() -> None:
    y = ops.rms_norm(pm.zeros((2, 8)), None)
    assert (y.numpy() == 0).all()


def test_rms_norm_layer_matches_torch() -> None:
    ours, theirs = nn.RMSNorm(24, eps=1e-5), torch.nn.RMSNorm(24, eps=1e-5)
    x = draw(5, 24).astype(np.float32)
    np.testing.assert_allclose(
        ours(pm.tensor(x)).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=2e-6, atol=1e-6
    )
    assert repr(ours) == "RMSNorm(24, eps=1e-05)"


def test_rms_norm_rejects_bad_inputs() -> None:
    x = pm.zeros((2, 8))
    with pytest.raises(ValueError, match=r"rms_norm: weight must have shape \(8,\), got \(7,\)"):
        ops.rms_norm(x, pm.zeros((7,)))
    with pytest.raises(ValueError, match="rms_norm: x must have at least one dimension"):
        ops.rms_norm(pm.tensor(1.0))
    with pytest.raises(ValueError, match="RMSNorm: x must have a last dimension of 7, got shape"):
        nn.RMSNorm(7)(x)
