"""The product of an activated gate and what it lets through, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memory import LAYOUTS
from orders import run_under_orders
from reference import check_op, gradient_of
from torch.nn import functional

import pymodel as pm
from pymodel import ops

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


# A whole number of vectors and not, more than a block, nothing, and one number.
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(4, 64), (3, 1037), (2, 3, 5), (0, 4), (4, 0), ()], ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gated_activation_matches_torch(name: str, shape: tuple[int, ...], dtype: str) -> None:
    check_op(
        lambda gate, up: ops.gated_activation(gate, up, name),
        lambda gate, up: ACTIVATIONS[name](gate) * up,
        [2 * normal(*shape), normal(*shape, seed=1)],
        dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gated_activation_of_any_layout(layout: str, dtype: str) -> None:
    values = [normal(9, 20, seed=seed) for seed in range(3)]
    results = []
    for place in (pm.tensor, LAYOUTS[layout]):
        gate, up, dy = (place(x, dtype=dtype) for x in values)
        y = ops.gated_activation(gate.requires_grad_(), up.requires_grad_())
        y.backward(dy)
        results.append([y.numpy(), gradient_of(gate).numpy(), gradient_of(up).numpy()])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_gated_activation_of_the_halves_of_a_projection() -> None:
    packed = pm.tensor(normal(5, 34), dtype="float32", requires_grad=True)
    y = ops.gated_activation(packed[:, :17], packed[:, 17:])
    y.backward(pm.ones((5, 17)))
    exact = torch.tensor(packed.numpy(), dtype=torch.float64, requires_grad=True)
    expected = functional.silu(exact[:, :17]) * exact[:, 17:]
    expected.sum().backward()
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient_of(packed).numpy(), exact.grad, rtol=1e-6, atol=1e-7)


def test_gated_activation_gives_one_gradient_where_only_one_is_wanted() -> None:
    gate, up = (pm.tensor(normal(3, 4, seed=seed), dtype="float32") for seed in (1, 2))
    up.requires_grad_()
    ops.gated_activation(gate, up).backward(pm.ones((3, 4)))
    assert gate.grad is None
    np.testing.assert_allclose(gradient_of(up).numpy(), ops.silu(gate).numpy(), rtol=1e-6)


def test_gated_activation_has_the_same_bits_in_every_order_of_threads(device: str) -> None:
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")
    values = [normal(7, 70, seed=seed) for seed in range(3)]

    def compute() -> list[np.ndarray]:
        gate, up, dy = (pm.tensor(x, dtype="bfloat16") for x in values)
        y = ops.gated_activation(gate.requires_grad_(), up.requires_grad_())
        y.backward(dy)
        return [y.numpy(), gradient_of(gate).numpy(), gradient_of(up).numpy()]

    run_under_orders(compute, seeds=1)


def test_gated_activation_names_what_is_wrong() -> None:
    gate, up = pm.zeros((2, 3)), pm.zeros((3, 2))
    with pytest.raises(ValueError, match=r"gated_activation: up must have shape \(2, 3\), got \(3, 2\)"):
        ops.gated_activation(gate, up)
    with pytest.raises(ValueError, match="gated_activation: activation 'swish' is unknown; expected one of"):
        ops.gated_activation(gate, gate, "swish")
    with pytest.raises(TypeError, match="gated_activation: up must be float32, got float16"):
        ops.gated_activation(gate, gate.half())
    with pytest.raises(TypeError, match="gated_activation: gate must be float32"):
        ops.gated_activation(pm.tensor([1]), pm.tensor([1]))
