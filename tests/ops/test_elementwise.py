"""Arithmetic, functions, choice, copies and conversions against torch and NumPy."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import pytest
import torch
from dtypes import FLOATS, NUMPY, normal
from reference import check_op

import pymodel as pm
from pymodel import _core, ops
from pymodel.errors import DeviceError

BROADCASTS = [
    pytest.param((5, 7), (5, 7), id="equal"),
    pytest.param((3, 1000), (1000,), id="row, longer than a block"),
    pytest.param((33, 5), (33, 1), id="column"),
    pytest.param((4, 1, 3), (5, 1), id="both stretch"),
    pytest.param((), (3,), id="no dimensions"),
    pytest.param((2, 3), (), id="no dimensions on the right"),
    pytest.param((0, 3), (3,), id="empty"),
    pytest.param((1,), (1,), id="one element"),
    pytest.param((130, 257), (130, 257), id="several tasks, odd"),
]


def away_from_zero(*shape: int, seed: int = 0) -> np.ndarray:
    x = normal(*shape, seed=seed)
    return (np.sign(x) + 0.5 * x).astype(np.float32)


# -- binary operations ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("a", "b"), BROADCASTS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
def test_elementwise_arithmetic_broadcasts(
    name: str, a: tuple[int, ...], b: tuple[int, ...], dtype: str
) -> None:
    op = getattr(operator, name)
    check_op(op, op, [away_from_zero(*a), away_from_zero(*b, seed=1)], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_elementwise_extremes(name: str, dtype: str) -> None:
    a, b = normal(6, 50), normal(50, seed=1)
    b[::3] = a[2, ::3]  # ties share the gradient
    check_op(getattr(ops, name), getattr(torch, name), [a, b], dtype)


def test_elementwise_extremes_pass_nan_on() -> None:
    a, b = pm.tensor([1.0, math.nan, math.nan]), pm.tensor([math.nan, 1.0, math.nan])
    assert np.isnan(ops.maximum(a, b).numpy()).all()
    assert np.isnan(ops.minimum(a, b).numpy()).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [2, 0.5, 3, -1, -1.5, 0, 1])
def test_elementwise_power_of_number(exponent: float, dtype: str) -> None:
    check_op(lambda x: x**exponent, lambda x: x**exponent, [np.abs(away_from_zero(7, 9))], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_elementwise_power_of_tensors(dtype: str) -> None:
    check_op(operator.pow, operator.pow, [np.abs(away_from_zero(7, 9)), normal(9, seed=1)], dtype)
    check_op(lambda x: 2.5**x, lambda x: 2.5**x, [normal(7, 9)], dtype)


def test_elementwise_power_gradient_at_zero() -> None:
    base, exponent = [0.0, 0.0, 2.0, -2.0], [0.0, 2.0, 0.0, 2.0]
    ours = [pm.tensor(v, dtype="float32", requires_grad=True) for v in (base, exponent)]
    theirs = [torch.tensor(v, requires_grad=True) for v in (base, exponent)]
    (ours[0] ** ours[1]).sum().backward()
    (theirs[0] ** theirs[1]).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
def test_elementwise_number_on_either_side(name: str, dtype: str) -> None:
    op = getattr(operator, name)
    x = away_from_zero(3, 700)
    # The number is not rounded to the tensor's dtype first.
    check_op(lambda t: op(t, 0.1), lambda t: op(t, 0.1), [x], dtype)
    check_op(lambda t: op(3, t), lambda t: op(3, t), [x], dtype)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "int64", "uint8"])
def test_elementwise_comparisons(name: str, dtype: str) -> None:
    op = getattr(operator, name)
    a = np.random.default_rng(0).integers(0, 4, (5, 77)).astype(NUMPY[dtype])
    b = np.random.default_rng(1).integers(0, 4, 77).astype(NUMPY[dtype])
    result = op(pm.tensor(a), pm.tensor(b))
    assert result.dtype == "bool"
    np.testing.assert_array_equal(result.numpy(), op(a, b))
    np.testing.assert_array_equal(op(pm.tensor(a), 2).numpy(), op(a, 2))
    np.testing.assert_array_equal(op(2, pm.tensor(a)).numpy(), op(2, a))


def test_elementwise_comparison_with_nan_holds_only_for_ne() -> None:
    x = pm.tensor([math.nan, 1.0])
    for op, wanted in [
        (operator.eq, [False, True]),
        (operator.ne, [True, False]),
        (operator.le, [False, True]),
    ]:
        assert op(x, x).tolist() == wanted


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_elementwise_integers_wrap_as_in_numpy(name: str, dtype: str) -> None:
    op = getattr(operator, name)
    info = np.iinfo(dtype)
    a = np.array([info.max, info.min, 3, 100], dtype=dtype)
    b = np.array([1, 1, 2, 7], dtype=dtype)
    with np.errstate(over="ignore"):
        wanted = op(a, b)
    result = op(pm.tensor(a), pm.tensor(b))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.numpy(), wanted)


def test_elementwise_promotion() -> None:
    i, f, h = pm.tensor([1, 2]), pm.tensor([0.5, 0.5]), pm.tensor([0.5, 0.5], dtype="bfloat16")
    mask = i > 1
    assert (i + f).dtype == "float32"
    assert (h * i).dtype == "bfloat16"
    assert (i + 1).dtype == "int64"
    assert (i + 1.0).dtype == "float32"
    assert (h + 1.0).dtype == "bfloat16"
    assert (i / 2).dtype == "float32"
    assert (i / 2).tolist() == [0.5, 1.0]
    assert (i + i.to("int32")).dtype == "int64"
    assert (mask * f).tolist() == [0.0, 0.5]
    assert (mask + 1).dtype == "int64"
    assert (f * np.array([2.0, 4.0])).tolist() == [1.0, 2.0]
    assert (np.array([2.0, 4.0]) * f).tolist() == [1.0, 2.0]
    assert (f * np.float32(2)).tolist() == [1.0, 1.0]


def test_elementwise_gradient_of_integer_operand_is_none() -> None:
    i, f = pm.tensor([1, 2]), pm.tensor([0.5, 0.5], requires_grad=True)
    (i * f).sum().backward()
    assert f.grad is not None
    assert f.grad.tolist() == [1.0, 2.0]
    assert i.grad is None


@pytest.mark.parametrize("dtype", FLOATS)
def test_elementwise_same_tensor_on_both_sides(dtype: str) -> None:
    check_op(lambda x: x * x + x / x - x, lambda x: x * x + x / x - x, [away_from_zero(3, 5)], dtype)


def test_elementwise_strided_operands() -> None:
    def result(name: str, left: Any, right: Any) -> np.ndarray:
        return pm.Tensor(_core.binary(name, left, right)).numpy()

    a, b = normal(6, 40, 8), normal(8, 40, 6, seed=1)
    whole = pm.tensor(a)._array
    ours = result("sub", whole.permute([2, 1, 0]), pm.tensor(b)._array)
    np.testing.assert_array_equal(ours, a.transpose(2, 1, 0) - b)
    np.testing.assert_array_equal(result("mul", whole.slice(2, 1, 8, 3), 2), a[:, :, 1::3] * 2)
    expanded = pm.tensor(a[:, :1])._array.expand([6, 40, 8])
    np.testing.assert_array_equal(result("add", expanded, whole), a[:, :1] + a)
    np.testing.assert_array_equal(result("add", 1, expanded), np.broadcast_to(a[:, :1] + 1, a.shape))
    into = pm.zeros((8, 40, 6))
    _core.binary("add", whole, 1.0, into._array.permute([2, 1, 0]))
    np.testing.assert_array_equal(into.numpy(), (a + 1).transpose(2, 1, 0))


def test_elementwise_output_may_overlap_the_input() -> None:
    x = pm.tensor(normal(40, 40))
    wanted = x.numpy() + x.numpy().T
    _core.binary("add", x._array, x._array.permute([1, 0]), x._array)
    np.testing.assert_array_equal(x.numpy(), wanted)
    y = pm.tensor(np.arange(10.0), dtype="float32")
    _core.copy(y._array.slice(0, 0, 9, 1), y._array.slice(0, 1, 10, 1))
    assert y.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_elementwise_logic() -> None:
    a, b = pm.tensor([True, True, False, False]), pm.tensor([True, False, True, False])
    assert (a & b).tolist() == [True, False, False, False]
    assert (a | b).tolist() == [True, True, True, False]
    assert (a ^ b).tolist() == [False, True, True, False]
    assert (~a).tolist() == [False, False, True, True]
    assert (a & True).tolist() == a.tolist()


# -- unary operations -------------------------------------------------------------------------------

UNARY = {
    "neg": (ops.neg, torch.neg, normal),
    "abs": (ops.abs, torch.abs, normal),
    "exp": (ops.exp, torch.exp, normal),
    "log": (ops.log, torch.log, lambda *s: np.abs(away_from_zero(*s))),
    "sqrt": (ops.sqrt, torch.sqrt, lambda *s: np.abs(away_from_zero(*s))),
    "rsqrt": (ops.rsqrt, torch.rsqrt, lambda *s: np.abs(away_from_zero(*s))),
    "reciprocal": (ops.reciprocal, torch.reciprocal, away_from_zero),
    "square": (ops.square, torch.square, normal),
    "sin": (ops.sin, torch.sin, lambda *s: 10 * normal(*s)),
    "cos": (ops.cos, torch.cos, lambda *s: 10 * normal(*s)),
    "erf": (ops.erf, torch.erf, normal),
    "clamp": (lambda x: ops.clamp(x, -0.5, 1), lambda x: torch.clamp(x, -0.5, 1), normal),
    "clamp below": (lambda x: ops.clamp(x, min=0.25), lambda x: torch.clamp(x, min=0.25), normal),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 1037), (), (0, 4), (17,)], ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_elementwise_functions(name: str, shape: tuple[int, ...], dtype: str) -> None:
    ours, theirs, values = UNARY[name]
    check_op(ours, theirs, [values(*shape)], dtype)


def test_elementwise_functions_of_special_values() -> None:
    x = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-40, 200.0, -200.0]
    ours, theirs = pm.tensor(x, dtype="float32"), torch.tensor(x)
    for name in ["neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "square", "erf"]:
        result = getattr(ops, name)(ours).numpy()
        np.testing.assert_allclose(
            result, getattr(torch, name)(theirs).numpy(), rtol=1e-6, atol=1e-37, err_msg=name
        )
    assert np.isnan(ops.clamp(ours, 0.0, 1.0).numpy()[6])


def test_elementwise_integer_functions() -> None:
    x = pm.tensor([-3, 0, 5])
    assert (-x).tolist() == [3, 0, -5]
    assert abs(x).tolist() == [3, 0, 5]
    assert x.square().tolist() == [9, 0, 25]
    assert x.clamp(-1, 2).tolist() == [-1, 0, 2]


# -- choice -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_elementwise_where_broadcasts(dtype: str) -> None:
    mask = normal(4, 1, 90) > 0
    check_op(
        lambda a, b: ops.where(pm.tensor(mask), a, b),
        lambda a, b: torch.where(torch.tensor(mask), a, b),
        [normal(5, 1), normal(90, seed=1)],
        dtype,
    )
    check_op(
        lambda a: ops.where(pm.tensor(mask), a, 0.5),
        lambda a: torch.where(torch.tensor(mask), a, 0.5),
        [normal(5, 90)],
        dtype,
    )


@pytest.mark.parametrize("dtype", NUMPY)
def test_elementwise_where_of_any_dtype_and_strides(dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2 if dtype == "bool" else 100, (40, 33)).astype(NUMPY[dtype]) for _ in "ab")
    mask = rng.random((33, 40)) < 0.5
    turned = pm.Tensor(pm.tensor(mask)._array.permute([1, 0]))
    np.testing.assert_array_equal(
        ops.where(turned, pm.tensor(a), pm.tensor(b)).numpy(), np.where(mask.T, a, b)
    )
    straight, one = pm.tensor(mask.T), pm.tensor(a[0, 0])
    np.testing.assert_array_equal(
        ops.where(straight, one, pm.tensor(b)).numpy(), np.where(mask.T, a[0, 0], b)
    )
    np.testing.assert_array_equal(
        ops.where(straight, pm.tensor(b), one).numpy(), np.where(mask.T, b, a[0, 0])
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_elementwise_masked_fill(dtype: str) -> None:
    mask = normal(70) > 0
    check_op(
        lambda x: x.masked_fill(pm.tensor(mask), -math.inf).exp(),
        lambda x: x.masked_fill(torch.tensor(mask), -math.inf).exp(),
        [normal(6, 70)],
        dtype,
    )


# -- determinism and errors -------------------------------------------------------------------------


@pytest.mark.host_only("threads of the CPU")
def test_elementwise_same_bits_with_any_threads() -> None:
    a, b = pm.tensor(normal(301, 257)), pm.tensor(normal(257, seed=1))
    results, before = [], pm.get_num_threads()
    for threads in (1, 2, 3):
        pm.set_num_threads(threads)
        results.append((a * b + 1).exp().numpy().tobytes())
    pm.set_num_threads(before)
    assert len(set(results)) == 1


def test_elementwise_errors_name_the_way_out() -> None:
    f, h, leaf = pm.ones((2, 3)), pm.ones((2, 3), "bfloat16"), pm.ones((2, 3), requires_grad=True)
    expanded = pm.Tensor(pm.ones((1,))._array.expand([4]))
    cases = [
        (lambda: f + pm.ones((4,)), ValueError, r"add: shapes \(2, 3\) and \(4,\) do not broadcast"),
        (lambda: f * h, TypeError, r"mul: the tensors are float32 and bfloat16; .*\.to\("),
        (lambda: f + "a", TypeError, "add: expected a tensor or a number, got str"),
        (lambda: f < "a", TypeError, "not supported"),
        (lambda: (f > 0) + (f > 0), TypeError, r"add: not defined for bool tensors; use &"),
        (lambda: f & f, TypeError, "&: both sides must be bool, got float32 and float32"),
        (lambda: pm.tensor([1]).exp(), TypeError, r"exp: x must be float32 .* got int64; convert"),
        (lambda: ops.clamp(f), ValueError, "clamp: give min, max or both"),
        (lambda: ops.clamp(f, 2, 1), ValueError, "clamp: min 2 exceeds max 1"),
        (lambda: ops.where(f, f, f), TypeError, "where: condition must be bool, got float32"),
        (
            lambda: f.masked_fill(pm.ones((4, 1, 1)) > 0, 1),
            ValueError,
            "masked_fill: mask .* does not broadcast",
        ),
        (
            lambda: pm.tensor([1]).masked_fill(pm.tensor([True]), 0.5),
            TypeError,
            "int64 tensor cannot hold 0.5",
        ),
        (lambda: expanded.fill_(1), ValueError, "fill: cannot write to an expanded view"),
        (lambda: f.copy_(pm.ones((3, 3))), ValueError, r"copy: shapes \(3, 3\) and \(2, 3\)"),
        (lambda: f.copy_(pm.ones((4, 2, 3))), ValueError, "does not fit into shape"),
        (lambda: leaf.__iadd__(1), RuntimeError, "leaf that requires grad; change it inside pymodel.no_grad"),
        (lambda: leaf.zero_(), RuntimeError, "zero_: a change in place is not recorded"),
        (lambda: f.add_(leaf), RuntimeError, "add_: a change in place is not recorded"),
        (lambda: pm.tensor([1]).__iadd__(0.5), TypeError, "add: out must be float32, got int64"),
        (lambda: pm.tensor([1]).fill_(math.nan), ValueError, "fill: an integer tensor cannot hold nan"),
        (lambda: f.to("float64"), Exception, "float64"),
        (lambda: f.to("cuda"), DeviceError, "cuda"),
        (lambda: f + 2**80, OverflowError, "too big|too large"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_elementwise_comparison_with_none_is_false() -> None:
    x = pm.ones((2,))
    nothing: Any = None
    equal: Any = x == nothing
    assert equal is False
    assert x in [x]
