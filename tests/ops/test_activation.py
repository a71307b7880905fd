"""Activations against torch, by themselves and fused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference import check_op
from torch.nn import functional

import pymodel as pm
from pymodel import ops

FLOATS = ["float32", "float16", "bfloat16"]
ACTIVATIONS = {
    "relu": (ops.relu, functional.relu),
    "gelu": (ops.gelu, functional.gelu),
    "gelu_tanh": (
        lambda x: ops.gelu(x, approximate="tanh"),
        lambda x: functional.gelu(x, approximate="tanh"),
    ),
    "silu": (ops.silu, functional.silu),
    "tanh": (ops.tanh, torch.tanh),
    "sigmoid": (ops.sigmoid, torch.sigmoid),
}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 1037), (), (0, 4), (17,)], ids=str)
@pytest.mark.parametrize("scale", [0.01, 3.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_forward_and_backward(name: str, scale: float, shape: tuple[int, ...], dtype: str) -> None:
    ours, theirs = ACTIVATIONS[name]
    check_op(ours, theirs, [scale * normal(*shape)], dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_far_from_zero(name: str) -> None:
    x = [-1e4, -200.0, -30.0, 30.0, 200.0, 1e4, math.nan]
    ours = pm.tensor(x, dtype="float32", requires_grad=True)
    theirs = torch.tensor(x, requires_grad=True)
    results = [function(leaf) for function, leaf in zip(ACTIVATIONS[name], (ours, theirs), strict=True)]
    for result in results:
        result.sum().backward()
    np.testing.assert_allclose(results[0].numpy(), results[1].detach().numpy(), rtol=1e-6, atol=1e-12)
    assert ours.grad is not None
    np.testing.assert_allclose(ours.grad.numpy()[:-1], theirs.grad.numpy()[:-1], rtol=1e-6, atol=1e-12)


@pytest.mark.host_only
@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "silu"])
def test_activation_of_huge_values_is_the_value_or_zero(name: str) -> None:
    x = pm.tensor(np.array([-3e38, -1e30, -1e6, 1e6, 1e30, 3e38], np.float32), requires_grad=True)
    y = ACTIVATIONS[name][0](x)
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), np.maximum(x.numpy(), 0))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, 0, 1, 1, 1], atol=1e-20)


def test_activation_strided() -> None:
    x = normal(40, 33)
    view = pm.Tensor(pm.tensor(x)._array.permute([1, 0]).slice(1, 1, 40, 3))
    expected = functional.silu(torch.tensor(x).T[:, 1::3])
    np.testing.assert_allclose(ops.silu(view).numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_has_the_bits_of_the_fused_one(name: str) -> None:
    x, weight = pm.tensor(normal(9, 20)), pm.tensor(normal(33, 20, seed=1))
    fused = ops.linear(x, weight, activation=name)
    apart = ACTIVATIONS[name][0](ops.linear(x, weight))
    np.testing.assert_array_equal(fused.numpy(), apart.numpy())


def test_activation_methods() -> None:
    x = pm.tensor(normal(5))
    for name in ("relu", "gelu", "silu", "tanh", "sigmoid"):
        np.testing.assert_array_equal(getattr(x, name)().numpy(), getattr(ops, name)(x).numpy())


def test_activation_errors_name_the_way_out() -> None:
    with pytest.raises(ValueError, match="gelu: approximate must be 'none' or 'tanh', got 'erf'"):
        ops.gelu(pm.ones((2,)), approximate="erf")
    with pytest.raises(TypeError, match=r"relu: x must be float32 .* got int64; convert it with \.to"):
        ops.relu(pm.tensor([1]))
