"""How the CPU finishes tiles of a product on the matrix unit (csrc/ops/gemm/gemm_tile_finisher_cpu.h)."""

import numpy as np
import pytest
import torch
from products import draw, product
from reference import TORCH_DTYPES, assert_as_good_as_torch, to_torch

import pymodel as pm
from pymodel import _core

pytestmark = pytest.mark.host_only("tiles of the CPU; devices have theirs in test_gemm.py")

# One range of k and several, whole tiles and ragged ones beside them.
FINISHED = [
    ("float32", 310, 410, 140),
    ("float32", 270, 100, 1100),
    ("float32", 310, 96, 1100),
    ("bfloat16", 96, 100, 70),
    ("bfloat16", 100, 96, 4200),
]


def torch_gelu(x: torch.Tensor, activation: str) -> torch.Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def gelu_slope(x: torch.Tensor, activation: str) -> torch.Tensor:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(torch_gelu(x, activation).sum(), x)
    return slope


@pytest.mark.parametrize(("dtype", "m", "n", "k"), FINISHED)
def test_gemm_adds_a_bias_and_a_residual_to_tiles(dtype: str, m: int, n: int, k: int) -> None:
    a, b, bias, residual = (
        pm.tensor(x, dtype=dtype)
        for x in (draw(m, k), draw(k, n, seed=1), draw(n, seed=2), draw(m, n, seed=3))
    )
    with_bias = product(a, b, bias=bias._array)
    with_both = product(a, b, bias=bias._array, residual=residual._array)
    sums = [
        to_torch(a.numpy(), t) @ to_torch(b.numpy(), t) + to_torch(bias.numpy(), t)
        for t in (TORCH_DTYPES[dtype], torch.float64)
    ]
    assert_as_good_as_torch(with_bias, sums[0], sums[1], dtype)
    same, exact = (z + to_torch(residual.numpy(), z.dtype) for z in sums)
    assert_as_good_as_torch(with_both, same, exact, dtype)
    if dtype == "float32":
        np.testing.assert_array_equal(with_both.numpy(), (with_bias + residual).numpy())


@pytest.mark.parametrize(("dtype", "m", "n", "k"), FINISHED)
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_gemm_applies_an_activation_to_tiles(activation: str, dtype: str, m: int, n: int, k: int) -> None:
    a, b, bias = (
        pm.tensor(x, dtype=dtype) for x in (draw(m, k) * k**-0.5, draw(k, n, seed=1), draw(n, seed=2))
    )
    pre = pm.full((m, n), float("nan"), dtype=dtype)
    saved = product(a, b, bias=bias._array, preactivation=pre._array, activation=activation)
    unsaved = product(a, b, bias=bias._array, activation=activation)
    same, exact = (
        to_torch(a.numpy(), t) @ to_torch(b.numpy(), t) + to_torch(bias.numpy(), t)
        for t in (TORCH_DTYPES[dtype], torch.float64)
    )
    assert_as_good_as_torch(pre, same, exact, dtype, "preactivation")
    for result in (saved, unsaved):
        assert_as_good_as_torch(result, torch_gelu(same, activation), torch_gelu(exact, activation), dtype)
    separate = pre._array.empty_like()
    _core.activation(activation, pre._array, separate)
    np.testing.assert_array_equal(saved.numpy(), pm.Tensor(separate).numpy())
    if dtype == "float32":  # bfloat16 rounds what it saves
        np.testing.assert_array_equal(unsaved.numpy(), saved.numpy())


@pytest.mark.parametrize(("dtype", "m", "n", "k"), FINISHED)
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_gemm_multiplies_tiles_by_a_derivative(activation: str, dtype: str, m: int, n: int, k: int) -> None:
    a, b, pre = (pm.tensor(x, dtype=dtype) for x in (draw(m, k), draw(k, n, seed=1), draw(m, n, seed=2) * 2))
    before = pre.numpy().copy()
    result = product(a, b, preactivation=pre._array, activation=activation, activation_gradient=True)
    same, exact = (
        to_torch(a.numpy(), t) @ to_torch(b.numpy(), t) * gelu_slope(to_torch(before, t), activation)
        for t in (TORCH_DTYPES[dtype], torch.float64)
    )
    assert_as_good_as_torch(result, same, exact, dtype)
    np.testing.assert_array_equal(pre.numpy(), before)
