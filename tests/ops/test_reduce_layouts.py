"""Reductions of tensors that lie in memory in every way there is, and of every size that the kernels treat
in a way of its own: all values are small integers, so that every result is exact."""

from __future__ import annotations

import numpy as np
import pytest
from dtypes import NUMPY
from memory import LAYOUTS
from orders import run_under_orders

import pymodel as pm
from pymodel import _core

# Elements of an output: around teams of 1 to 32 threads, a vector, what one warp takes (512 slots of 1, 4
# or 8 elements), and what is cut into chunks (2048 slots).
LENGTHS = [1, 2, 3, 5, 8, 9, 31, 33, 64, 257, 511, 513, 2049, 4097, 20000]


def negatives(*shape: int, seed: int = 0) -> np.ndarray:
    """No result of them is 0, so that an element too many is seen."""
    return -np.random.default_rng(seed).integers(1, 9, shape).astype(np.float32)


def check(x: pm.Tensor, values: np.ndarray, dim: int | tuple[int, ...] | None) -> None:
    exact = values.astype(np.float64)
    total = _core.reduce(
        "sum",
        x._array,
        pm.empty(exact.sum(dim).shape)._array,
        None if dim is None else [dim] if isinstance(dim, int) else list(dim),
    )
    np.testing.assert_array_equal(pm.Tensor(total).numpy(), exact.sum(dim))
    np.testing.assert_array_equal(x.max(dim).numpy(), values.max(dim))
    np.testing.assert_array_equal(x.min(dim).numpy(), values.min(dim))
    if not isinstance(dim, tuple):
        np.testing.assert_array_equal(x.argmax(dim).numpy(), values.argmax(dim))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", LENGTHS)
def test_reduce_layouts_of_rows(length: int, dtype: str) -> None:
    for outputs in (1, 3):
        values = negatives(outputs, length)
        for layout in LAYOUTS.values():
            check(layout(values, dtype=dtype), values, 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("columns", [2, 3, 8, 31, 33, 257, 264])
def test_reduce_layouts_of_columns(columns: int, dtype: str) -> None:
    # The last is cut into chunks, whatever the number of columns.
    for rows in (1, 7, 63, 300 if columns > 30 else 4100):
        values = negatives(rows, columns)
        for layout in LAYOUTS.values():
            check(layout(values, dtype=dtype), values, 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dim", [(0,), (1,), (2,), (3,), (0, 2), (1, 3), (0, 1, 3), (0, 2, 3), None])
def test_reduce_layouts_of_several_dimensions(dim: tuple[int, ...] | None, dtype: str) -> None:
    values = negatives(3, 40, 5, 24)
    for layout in LAYOUTS.values():
        check(layout(values, dtype=dtype), values, dim)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 700), (700, 3), (40000,), (2100, 33)], ids=str)
def test_reduce_layouts_of_integers(shape: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 90, shape).astype(NUMPY[dtype])
    for layout in LAYOUTS.values():
        x = layout(values)
        for dim in (None, 0, len(shape) - 1):
            np.testing.assert_array_equal(x.sum(dim).numpy(), values.sum(dim, dtype=np.int64))
            np.testing.assert_array_equal(x.max(dim).numpy(), values.max(dim))
            np.testing.assert_array_equal(x.min(dim).numpy(), values.min(dim))
            np.testing.assert_array_equal((x == 1).any(dim).numpy(), (values == 1).any(dim))
            np.testing.assert_array_equal((x < 89).all(dim).numpy(), (values < 89).all(dim))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reduce_layouts_of_squared_deviations(layout: str) -> None:
    values = negatives(37, 45)
    for dim, center in ((0, np.arange(45)), (1, np.arange(37)[:, None])):
        middle = pm.tensor(center.ravel().astype(np.float32))._array
        array = LAYOUTS[layout](values)._array
        result = pm.Tensor(_core.reduce("squared_deviation", array, dims=[dim], center=middle, divisor=2.0))
        np.testing.assert_array_equal(result.numpy(), ((values - center) ** 2).sum(dim) / 2)


def test_reduce_into_an_output_with_strides() -> None:
    values = negatives(40, 70)
    for dim, outputs in ((0, 70), (1, 40)):
        out = pm.zeros((outputs, 3))
        _core.reduce("sum", pm.tensor(values)._array, out._array.slice(1, 1, 2, 1).reshape([outputs]), [dim])
        np.testing.assert_array_equal(out.numpy()[:, 1], values.sum(dim))
        assert (out.numpy()[:, ::2] == 0).all()


def test_reduce_same_bits_in_any_order(device: str) -> None:
    if device != "simt":
        pytest.skip("only the emulator has orders to choose from")
    values = np.random.default_rng(0).standard_normal((300, 70)).astype(np.float32)
    long = np.random.default_rng(1).standard_normal(9000).astype(np.float32)

    def compute() -> list[np.ndarray]:
        x, y = pm.tensor(values), pm.tensor(long)
        results = [x.sum(), x.sum(0), x.sum(1), x.max(0), x.argmax(1), y.sum(), y.argmin(), (y > 0).sum()]
        return [result.numpy() for result in results]

    run_under_orders(compute, seeds=2)
