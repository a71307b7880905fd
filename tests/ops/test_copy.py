"""Copies, conversions between dtypes, fill and changes in place."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from dtypes import FLOATS, NUMPY, normal

import pymodel as pm
from pymodel import _core


@pytest.mark.parametrize(("source", "target"), list(itertools.product(NUMPY, NUMPY)))
def test_copy_conversion(source: str, target: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (37, 70)) if source == "bool" else rng.integers(0, 200, (37, 70))
    x = values.astype(NUMPY[source])
    for order in ([0, 1], [1, 0]):
        array = pm.Tensor(pm.tensor(x)._array.permute(order))
        result = array.clone() if source == target else array.to(target)
        assert result.dtype == target
        assert result.is_contiguous()
        np.testing.assert_array_equal(
            result.numpy().astype(np.float64), x.transpose(order).astype(NUMPY[target]).astype(np.float64)
        )


def test_copy_conversion_truncates_and_saturates() -> None:
    x = pm.tensor([2.9, -2.9, math.nan, math.inf, -math.inf, 0.25])
    assert x.to("int64").tolist() == [2, -2, 0, 2**63 - 1, -(2**63), 0]
    assert x.to("bool").tolist() == [True] * 6
    assert pm.tensor([3.7, 2.2]).to("uint8").tolist() == [3, 2]


@pytest.mark.parametrize("dtype", FLOATS)
def test_copy_conversion_rounds_to_nearest_even(dtype: str) -> None:
    x = np.concatenate([normal(4097) * 10.0**e for e in (-42, -30, -6, 0, 4, 30)]).astype(np.float32)
    with np.errstate(over="ignore"):
        wanted = x.astype(NUMPY[dtype])
    np.testing.assert_array_equal(pm.tensor(x).to(dtype).numpy(), wanted)


def test_copy_conversion_is_differentiable() -> None:
    x = pm.tensor(normal(3, 4), requires_grad=True)
    (x.to("bfloat16") * 3).float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == "float32"
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 4), 3.0))
    assert x.half().dtype == "float16"
    assert x.bfloat16().dtype == "bfloat16"
    assert x.to(x) is x
    assert x.to(x.device, "float32") is x


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("shape", [(64, 64), (3, 33, 65), (2, 3, 4, 5), (1, 7), (0, 3), (129, 4)], ids=str)
def test_copy_of_any_permutation(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape).astype(NUMPY[dtype])
    for order in itertools.permutations(range(len(shape))):
        array = pm.tensor(x)._array.permute(list(order))
        result = pm.Tensor(array).contiguous()
        assert result.is_contiguous()
        np.testing.assert_array_equal(result.numpy(), x.transpose(order))


def test_copy_clone_passes_gradients() -> None:
    x = pm.tensor(normal(3, 4), requires_grad=True)
    copy = x.clone()
    copy.sum().backward()
    assert copy.data_ptr() != x.data_ptr()
    assert x.grad is not None
    assert x.grad.tolist() == np.ones((3, 4)).tolist()


@pytest.mark.parametrize("dtype", NUMPY)
def test_copy_fill(dtype: str) -> None:
    x = pm.zeros((5, 70), dtype)
    assert x.fill_(1).numpy().astype(np.float64).sum() == 350
    assert x.zero_().numpy().astype(np.float64).sum() == 0
    _core.fill(x._array.slice(1, 1, 70, 2), 1)
    assert x.numpy().astype(np.float64).sum() == 175


def test_copy_fill_keeps_large_integers() -> None:
    assert pm.zeros((2,), "int64").fill_(2**62 + 1).tolist() == [2**62 + 1] * 2


def test_copy_in_place() -> None:
    x = pm.tensor([1.0, 2.0], requires_grad=True)
    address = x.data_ptr()
    with pm.no_grad():
        x += 1
        x *= pm.tensor([2.0, 3.0])
        x -= 1
        x /= 2
    assert x.tolist() == [1.5, 4.0]
    assert x.data_ptr() == address
    assert x.is_leaf
    y = pm.zeros((2, 2))
    assert y.copy_(pm.tensor([1, 2])).tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert y.masked_fill_(y > 1, 7).tolist() == [[1.0, 7.0], [1.0, 7.0]]
    assert y.add_(1).tolist() == [[2.0, 8.0], [2.0, 8.0]]


def test_copy_augmented_assignment_on_the_tape_makes_a_new_tensor() -> None:
    x = pm.tensor([1.0, 2.0], requires_grad=True)
    total = pm.zeros((2,))
    total += x * x
    total += x
    total.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 5.0]
