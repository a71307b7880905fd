"""Elementwise operations and copies on tensors that lie in memory in every way there is.

Kernels take 16-byte vectors, tiles or single elements by where the operands lie; all ways must give
what the dense one gives.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from dtypes import NUMPY, normal
from memory import LAYOUTS, Layout, shifted
from orders import run_under_orders

import pymodel as pm
from pymodel import _core, ops

# One element; around a vector of 16 bytes of each dtype; around a block of 256 threads; around all threads
# of the emulated GPU (4 * 8 * 256), which then take a second step; a prime.
COUNTS = [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 255, 256, 257, 8191, 8192, 8193, 32771]


def integers(*shape: int, high: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape)


def random_view(rng: np.random.Generator, ndim: int) -> tuple[np.ndarray, pm.Tensor]:
    """Small values and a tensor of them that is permuted, cut with steps, and expanded here and there."""
    whole = rng.integers(0, 50, rng.integers(1, 5, ndim)).astype(np.float32)
    array, ours = whole, pm.tensor(whole)._array
    order = rng.permutation(ndim).tolist()
    array, ours = array.transpose(order), ours.permute(order)
    for dim in range(ndim):
        extent = array.shape[dim]
        start, step = int(rng.integers(0, extent)), int(rng.integers(1, 3))
        array = array[(slice(None),) * dim + (slice(start, None, step),)]
        ours = ours.slice(dim, start, extent, step)
    stretched = [int(rng.integers(1, 4)) if extent == 1 else extent for extent in array.shape]
    return np.broadcast_to(array, stretched), pm.Tensor(ours.expand(stretched))


@pytest.mark.parametrize("ndim", range(1, 9))
def test_elementwise_layouts_of_up_to_eight_dimensions(ndim: int) -> None:
    rng = np.random.default_rng(ndim)
    for _ in range(12):
        a, x = random_view(rng, ndim)
        np.testing.assert_array_equal(x.clone().numpy(), a)
        np.testing.assert_array_equal(x.to("int32").numpy(), a)
        np.testing.assert_array_equal((x + 1).numpy(), a + 1)
        # Broadcast against an operand of other strides, some of its dimensions stretched.
        shape = [extent if rng.random() < 0.7 else 1 for extent in a.shape]
        b = rng.integers(1, 9, shape[::-1]).astype(np.float32).transpose()
        y = pm.Tensor(pm.tensor(b.transpose())._array.permute(list(range(ndim))[::-1]))
        np.testing.assert_array_equal((x * y).numpy(), a * b)
        np.testing.assert_array_equal(ops.where(x > y, x, y).numpy(), np.where(a > b, a, b))
        even = tuple(range(0, ndim, 2))
        np.testing.assert_array_equal(x.sum(even).numpy(), a.sum(even))


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_elementwise_layouts_of_copies(layout: str, dtype: str) -> None:
    for shape in [(1,), (3, 17), (5, 64), (2, 3, 40), (130, 67)]:
        x = integers(*shape, high=2 if dtype == "bool" else 100).astype(NUMPY[dtype])
        source = LAYOUTS[layout](x)
        np.testing.assert_array_equal(source.clone().numpy(), x)
        for target_layout in LAYOUTS.values():
            target = target_layout(np.zeros_like(x))
            _core.copy(source._array, target._array)
            np.testing.assert_array_equal(target.numpy(), x)
            _core.fill(target._array, 1)
            assert (target.numpy() == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "int64"])
@pytest.mark.parametrize("count", COUNTS)
def test_elementwise_layouts_around_vectors_and_grids(count: int, dtype: str) -> None:
    a, b = integers(count, high=7).astype(NUMPY[dtype]), integers(count, high=7, seed=1).astype(NUMPY[dtype])
    layouts: list[Layout] = [pm.tensor, shifted]
    for left, right in itertools.product(layouts, layouts):
        x, y = left(a), right(b)
        np.testing.assert_array_equal((x * y).numpy(), a * b)
        np.testing.assert_array_equal((x <= y).numpy(), a <= b)
        np.testing.assert_array_equal(ops.where(x <= y, x, y).numpy(), np.minimum(a, b))
        np.testing.assert_array_equal((x + 3).numpy(), a + NUMPY[dtype](3))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_elementwise_layouts_of_functions_and_their_gradients(layout: str, dtype: str) -> None:
    values, incoming = normal(33, 40), normal(33, 40, seed=1)
    functions: list[Any] = [ops.exp, ops.sin, ops.gelu, lambda x: ops.clamp(x, -0.5, 0.5)]
    for function in functions:
        results = []
        for place in (pm.tensor, LAYOUTS[layout]):
            x = place(values, dtype=dtype).requires_grad_()
            y = function(x)
            y.backward(place(incoming, dtype=dtype))
            assert x.grad is not None
            results.append((y.numpy(), x.grad.numpy()))
        np.testing.assert_array_equal(results[0][0], results[1][0])
        np.testing.assert_array_equal(results[0][1], results[1][1])


def test_elementwise_layouts_broadcast_rows_by_vectors() -> None:
    # Rows of 40 of 64 columns start at multiples of 16 bytes, so that they go by vectors with a short last
    # one; the second operand is one row, the third one column.
    table = integers(6, 64).astype(np.float32)
    x, rows = pm.tensor(table)[:, :37], table[:, :37]
    np.testing.assert_array_equal((x + pm.tensor(rows[0])).numpy(), rows + rows[0])
    np.testing.assert_array_equal((x * pm.tensor(rows[:, :1])).numpy(), rows * rows[:, :1])
    mask = integers(6, 1) > 50
    np.testing.assert_array_equal(
        ops.where(pm.tensor(mask), x, pm.tensor(rows[0])).numpy(), np.where(mask, rows, rows[0])
    )


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e12, 5e37])
def test_elementwise_circular_functions_of_large_arguments(scale: float) -> None:
    x = (normal(4000) * scale).astype(np.float32)
    x[:6] = [0.0, math.pi / 4, -math.pi / 4, 710.0, 1e-30, 16777216.0]
    exact = x.astype(np.float64)
    for ours, theirs in ((ops.sin, np.sin), (ops.cos, np.cos)):
        np.testing.assert_allclose(ours(pm.tensor(x)).numpy(), theirs(exact), rtol=3e-7, atol=1.2e-7)
    assert np.isnan(ops.sin(pm.tensor([math.inf, -math.inf, math.nan])).numpy()).all()


def test_elementwise_layouts_of_more_than_two_billion_elements(device: str) -> None:
    if not device.startswith("cuda"):
        pytest.skip("only a GPU is fast enough for 2 GiB of single bytes")
    count = 2**31 + 5
    x = pm.zeros((count,), "uint8")
    x[count - 2 :] = 3
    rest = x[1:]  # not aligned, so that every element is a slot of its own, and one launch too little
    assert int(rest.sum()) == 6
    assert int(rest.argmax()) == count - 3
    more = rest + 1
    assert int(more.sum()) == count - 1 + 6
    assert more[-3:].tolist() == [1, 4, 4]


def test_elementwise_layouts_same_bits_in_any_order(device: str) -> None:
    if device != "simt":
        pytest.skip("only the emulator has orders to choose from")
    values = normal(70, 66)

    def compute() -> list[np.ndarray]:
        x = pm.tensor(values)
        turned = pm.Tensor(x._array.permute([1, 0]))
        return [turned.clone().numpy(), (turned * 2 + 1).numpy(), x.sum(0).numpy(), x.sum().numpy()]

    run_under_orders(compute)
