"""Reductions against torch and NumPy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from reference import check_op

import pymodel as pm
from pymodel import _core, ops

FLOATS = ["float32", "float16", "bfloat16"]
# Each shape and dims with its reason.
CASES = [
    pytest.param((5, 7), None, id="everything"),
    pytest.param((3, 1037), 1, id="dense rows with a tail"),
    pytest.param((300, 37), 0, id="columns, narrow"),
    pytest.param((100, 300), 0, id="columns, several strips"),
    pytest.param((4, 50, 6), 1, id="middle"),
    pytest.param((4, 50, 6), (0, 2), id="around the middle"),
    pytest.param((4, 50, 6), (-1, 1), id="negative and unordered"),
    pytest.param((4, 50, 6), (), id="nothing"),
    pytest.param((), None, id="no dimensions"),
    pytest.param((3, 1, 5), 1, id="extent of 1"),
    pytest.param((20011,), 0, id="one output in chunks"),
    pytest.param((0, 3), 1, id="no outputs"),
]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def torch_dims(x: torch.Tensor, dim: Any) -> Any:
    """Where torch takes an empty tuple for all dimensions, ours and NumPy's reduce none."""
    return tuple(range(x.ndim)) if dim is None else dim


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(("shape", "dim"), CASES)
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_reduce_sums(name: str, shape: tuple[int, ...], dim: Any, keepdim: bool, dtype: str) -> None:
    if dim == ():
        check_op(lambda x: getattr(ops, name)(x, ()), lambda x: x.clone(), [normal(*shape)], dtype)
        return
    check_op(
        lambda x: getattr(ops, name)(x, dim, keepdim),
        lambda x: getattr(torch, name)(x, torch_dims(x, dim), keepdim) if x.ndim else getattr(torch, name)(x),
        [normal(*shape)],
        dtype,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "dim"), [c for c in CASES if c.values[1] != ()])
@pytest.mark.parametrize("name", ["max", "min"])
def test_reduce_extremes(name: str, shape: tuple[int, ...], dim: Any, dtype: str) -> None:
    if not shape:
        return
    x = np.round(4 * normal(*shape)) / 4  # with ties
    theirs = getattr(torch, f"a{name}")
    check_op(lambda t: getattr(t, name)(dim), lambda t: theirs(t, torch_dims(t, dim)), [x], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize(
    ("shape", "dim"), [((3, 1037), 1), ((300, 37), 0), ((4, 50, 6), (0, 2)), ((50,), None)]
)
def test_reduce_variance(shape: tuple[int, ...], dim: Any, correction: int, dtype: str) -> None:
    check_op(
        lambda x: x.var(dim, correction, keepdim=True),
        lambda x: torch.var(x, dim=dim, correction=correction, keepdim=True),
        [normal(*shape) + 3],
        dtype,
    )


def test_reduce_variance_about_a_large_mean() -> None:
    x = (normal(4000).astype(np.float64) + 1e4).astype(np.float32)
    np.testing.assert_allclose(pm.tensor(x).var().item(), x.astype(np.float64).var(ddof=1), rtol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("dim", [0, 1, 2, (0, 1), (1, 2), (0, 2), None])
def test_reduce_strided(dim: Any, order: tuple[int, ...]) -> None:
    x = normal(7, 33, 50)
    array = pm.tensor(x)._array.permute(list(order)).slice(1, 1, 100, 2)
    view = x.transpose(order)[:, 1::2]
    ours = pm.Tensor(array)
    np.testing.assert_allclose(ours.sum(dim).numpy(), view.astype(np.float64).sum(dim), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(ours.max(dim).numpy(), view.max(dim))
    if isinstance(dim, int):
        np.testing.assert_array_equal(ours.argmax(dim).numpy(), view.argmax(dim))


def test_reduce_expanded() -> None:
    x = pm.Tensor(pm.tensor(normal(5, 1))._array.expand([5, 600]))
    np.testing.assert_allclose(x.sum(0).numpy(), x.numpy().sum(0), rtol=1e-5)
    np.testing.assert_allclose(x.sum(1).numpy(), x.numpy().sum(1), rtol=1e-5)


# One output, a strip of them, strips of unequal widths, and so many that none is cut into chunks.
@pytest.mark.parametrize("shape", [(2**22,), (2**16, 64), (3000, 1037), (500, 4099)], ids=str)
def test_reduce_long_sums_are_accurate(shape: tuple[int, ...]) -> None:
    # Added one after the other, these would be off by about one in ten thousand.
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    exact = x.astype(np.float64).sum(0)
    np.testing.assert_allclose(pm.tensor(x).sum(0).numpy(), exact, rtol=3e-7)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_reduce_integers(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (7, 600)).astype(dtype)
    ours = pm.tensor(x)
    for dim in (None, 0, 1):
        assert ours.sum(dim).dtype == "int64"
        np.testing.assert_array_equal(ours.sum(dim).numpy(), x.sum(dim, dtype=np.int64))
        np.testing.assert_array_equal(ours.max(dim).numpy(), x.max(dim))
        np.testing.assert_array_equal(ours.min(dim).numpy(), x.min(dim))
        assert ours.max(dim).dtype == dtype


def test_reduce_any_and_all() -> None:
    x = np.array([[0.0, 0.0], [0.0, 2.0], [math.nan, 1.0]], dtype=np.float32)
    for dim in (None, 0, 1):
        np.testing.assert_array_equal(pm.tensor(x).any(dim).numpy(), x.astype(bool).any(dim))
        np.testing.assert_array_equal(pm.tensor(x).all(dim).numpy(), x.astype(bool).all(dim))
    assert not pm.zeros((0,)).any().item()
    assert pm.zeros((0,)).all().item()


@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "uint8"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_reduce_positions_are_the_first(name: str, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 50, (6, 1100)).astype(np.float32)
    ours = pm.tensor(x, dtype=dtype)
    for dim in (0, 1, -1, None):
        result = getattr(ours, name)(dim)
        assert result.dtype == "int64"
        np.testing.assert_array_equal(result.numpy(), getattr(x, name)(dim))
    assert getattr(ours, name)(1, keepdim=True).shape == (6, 1)
    assert getattr(ours, name)(keepdim=True).shape == (1, 1)


def test_reduce_nan_wins() -> None:
    x = normal(5, 700)
    x[2, 650] = math.nan
    x[3, 3] = math.nan
    for dim in (0, 1):
        for name in ("max", "min", "argmax", "argmin"):
            np.testing.assert_array_equal(getattr(pm.tensor(x), name)(dim).numpy(), getattr(x, name)(dim))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_reduce_all_finite(bad: float, dtype: str) -> None:
    x = pm.tensor(normal(300, 70), dtype=dtype)
    assert ops.all_finite(x)
    _core.fill(x._array.select(0, 299).slice(0, 69, 70, 1), bad)
    assert not ops.all_finite(x)


def test_reduce_all_finite_of_nothing_and_of_integers() -> None:
    assert ops.all_finite(pm.zeros((0,)))
    assert ops.all_finite(pm.tensor([1]))


def test_reduce_of_no_elements() -> None:
    assert pm.zeros((3, 0)).sum(1).tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(pm.zeros((3, 0)).mean(1).numpy()).all()
    assert pm.zeros((0, 3)).sum().item() == 0
    assert pm.zeros((0, 3)).max(1).shape == (0,)


@pytest.mark.host_only("threads of the CPU")
@pytest.mark.parametrize("shape", [(40013,), (5000, 130), (3, 40000)], ids=str)
def test_reduce_same_bits_with_any_threads(shape: tuple[int, ...]) -> None:
    x = pm.tensor(normal(*shape))
    before, results = pm.get_num_threads(), []
    for threads in (1, 2, 3):
        pm.set_num_threads(threads)
        results.append(x.sum(0).numpy().tobytes() + x.sum().numpy().tobytes() + x.sum(-1).numpy().tobytes())
    pm.set_num_threads(before)
    assert len(set(results)) == 1


def test_reduce_errors_name_the_way_out() -> None:
    x = pm.ones((2, 3))
    cases = [
        (lambda: x.sum(2), ValueError, r"sum: dimension 2 is out of range for a tensor of shape \(2, 3\)"),
        (lambda: x.sum((0, -2)), ValueError, "sum: dimension -2 is named twice"),
        (lambda: pm.tensor([1]).mean(), TypeError, r"mean: x must be float32 .* got int64; convert"),
        (lambda: pm.zeros((2, 0)).max(1), ValueError, r"max: x of shape \(2, 0\) has no elements"),
        (lambda: pm.zeros((0,)).argmax(), ValueError, r"argmax: x of shape \(0,\) has no elements"),
        (lambda: pm.ones((1,)).var(), ValueError, "var: 1 elements are too few for correction=1"),
        (
            lambda: _core.reduce("sum", x._array, pm.ones((2,))._array, [0]),
            ValueError,
            "sum: out must have shape",
        ),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
