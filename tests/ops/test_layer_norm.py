"""layer_norm against torch: options, odd widths, the fused residual and its two gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import check_op, gradient_of

import pymodel as pm
from pymodel import ops


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "shape",
    [(4, 1), (3, 5, 7), (1, 768), (70, 129), (2000, 33)],  # one column; odd; one row; a tail; several chunks
)
def test_layer_norm_matches_torch(shape: tuple[int, ...], dtype: str) -> None:
    columns = shape[-1]
    check_op(
        ops.layer_norm,
        lambda x, w, b: F.layer_norm(x, (columns,), w, b),
        [draw(*shape) * 3 + 1, draw(columns), draw(columns, seed=1)],
        dtype,
    )


def test_layer_norm_without_weight_and_bias() -> None:
    check_op(
        lambda x: ops.layer_norm(x, None, None, 1e-3),
        lambda x: F.layer_norm(x, (50,), None, None, 1e-3),
        [draw(6, 50)],
        "float32",
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("uses", ["both", "output", "sum"])
def test_layer_norm_with_residual(uses: str, dtype: str) -> None:
    def combine(y, s):
        return {"both": lambda: y * y + s, "output": lambda: y * 2.0, "sum": lambda: s * 2.0}[uses]()

    def theirs(x, w, b, r):
        s = x + r
        return combine(F.layer_norm(s, (40,), w, b), s) + (w + b) * 0.0

    def ours(x, w, b, r):
        return combine(*ops.layer_norm(x, w, b, residual=r)) + (w + b) * 0.0

    check_op(ours, theirs, [draw(9, 40), draw(40), draw(40, seed=1), draw(9, 40, seed=2)], dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("later", ["sum", "slice", "transpose"])  # dense, partial and strided gradients
def test_layer_norm_of_what_is_used_again(later: str, dtype: str) -> None:
    def used(x, y):
        if later == "sum":
            return y * y + x
        return y * y + x[:1] if later == "slice" else (y.T * x.T).T

    def theirs(x, w, b):
        x = x * 2.0
        return used(x, F.layer_norm(x, (12,), w, b))

    def ours(x, w, b):
        x = x * 2.0
        return used(x, ops.layer_norm(x, w, b))

    check_op(ours, theirs, [draw(12, 12), draw(12), draw(12, seed=1)], dtype)


def test_layer_norm_residual_gradients_do_not_share_memory() -> None:
    x, r = (pm.tensor(draw(3, 8, seed=s), requires_grad=True) for s in (1, 2))
    ops.layer_norm(x, None, None, residual=r)[0].sum().backward()
    assert not np.shares_memory(gradient_of(x).numpy(), gradient_of(r).numpy())


def test_layer_norm_variance_survives_a_large_mean() -> None:
    # E[x^2] - mean^2 would lose every digit here.
    x = draw(4, 256).astype(np.float32) + 4096
    exact = torch.nn.functional.layer_norm(torch.tensor(x, dtype=torch.float64), (256,)).numpy()
    assert np.abs(ops.layer_norm(pm.tensor(x)).numpy() - exact).max() < 1e-3


def test_layer_norm_same_bits_for_any_thread_count() -> None:
    results = []
    for threads in (1, 2):
        pm.set_num_threads(threads)
        x = pm.tensor(draw(500, 200), requires_grad=True)
        w, b = (pm.tensor(draw(200, seed=s), requires_grad=True) for s in (1, 2))
        y = ops.layer_norm(x, w, b)
        y.backward(pm.tensor(draw(500, 200, seed=5), dtype="float32"))
        results.append([y.numpy(), gradient_of(x).numpy(), gradient_of(w).numpy(), gradient_of(b).numpy()])
    pm.set_num_threads(2)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_layer_norm_of_nothing() -> None:
    w = pm.ones((5,), requires_grad=True)
    y = ops.layer_norm(pm.empty((0, 5)), w)
    y.backward(pm.empty((0, 5)))
    assert y.shape == (0, 5)
    assert not gradient_of(w).numpy().any()


def test_layer_norm_names_what_does_not_fit() -> None:
    x = pm.zeros((2, 4))
    with pytest.raises(ValueError, match=r"layer_norm: weight must have shape \(4,\), got \(3,\)"):
        ops.layer_norm(x, pm.ones((3,)))
    with pytest.raises(TypeError, match="layer_norm: bias must be float32, got bfloat16"):
        ops.layer_norm(x, None, pm.ones((4,), dtype="bfloat16"))
    with pytest.raises(ValueError, match="must not be empty"):
        ops.layer_norm(pm.zeros((2, 0)))
    with pytest.raises(TypeError, match="x must be float32 or float16 or bfloat16, got int64"):
        ops.layer_norm(pm.zeros((2, 4), dtype="int64"))
