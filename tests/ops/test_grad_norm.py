"""The global gradient norm and clipping."""

import math

import numpy as np
import pytest
import torch

import pymodel as pm
from pymodel import optim

SHAPES = [(3,), (0,), (), (50, 33), (100003,)]


@pytest.fixture
def rounding(device: str) -> float:
    """The relative error of a norm: a float64 number on the CPU, a float32 tensor on devices."""
    return 1e-14 if device == "cpu" else 2.0**-24


def with_gradients(dtype: str = "float32", scale: float = 1.0) -> list[pm.Tensor]:
    rng = np.random.default_rng(0)
    params = []
    for shape in SHAPES:
        p = pm.tensor(np.zeros(shape), dtype=dtype, requires_grad=True)
        p.grad = pm.tensor(scale * rng.standard_normal(shape), dtype=dtype)
        params.append(p)
    params.append(pm.tensor(np.zeros(4), requires_grad=True))  # no gradient
    return params


def exact_norm(params: list[pm.Tensor]) -> float:
    squares = [np.square(p.grad.numpy().astype(np.float64)).sum() for p in params if p.grad is not None]
    return math.sqrt(math.fsum(squares))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_grad_norm_is_exact(dtype: str, rounding: float):
    params = with_gradients(dtype)
    assert float(optim.grad_norm(params)) == pytest.approx(exact_norm(params), rel=rounding)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_grad_norm_squares_neither_vanish_nor_overflow(scale: float, rounding: float):
    params = with_gradients(scale=scale)
    assert float(optim.grad_norm(params)) == pytest.approx(exact_norm(params), rel=rounding)


def test_grad_norm_counts_every_element_once(rounding: float):
    # Ends of tensors before, at and after the ends of the kernel's chunks of 16384 elements.
    params = []
    for count in [16320, 64, 16384, 1, 16383, 16385, 0, 130, 32768, 40000, 9]:
        parameter = pm.zeros((count,), requires_grad=True)
        parameter.grad = pm.ones((count,))
        params.append(parameter)
    total = sum(p.numel() for p in params)
    assert float(optim.grad_norm(params)) ** 2 == pytest.approx(total, rel=3 * rounding)


def test_grad_norm_does_not_depend_on_threads():
    params = with_gradients()
    before = pm.get_num_threads()
    try:
        norms = set()
        for threads in (1, 2, 3, 5):
            pm.set_num_threads(threads)
            norms.add(float(optim.grad_norm(params)))
    finally:
        pm.set_num_threads(before)
    assert len(norms) == 1


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_grad_norm_shows_a_value_that_is_not_finite(value: float):
    params = with_gradients()
    values = np.zeros(SHAPES[4], np.float32)
    values[77777] = value
    params[4].grad = pm.tensor(values)
    norm = float(optim.grad_norm(params))
    assert math.isnan(norm) if math.isnan(value) else norm == math.inf
    with pytest.raises(RuntimeError, match="a gradient is not finite"):
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)


def test_grad_norm_counts_a_shared_parameter_once(rounding: float):
    params = with_gradients()
    assert float(optim.grad_norm([*params, params[0]])) == float(optim.grad_norm(params))
    assert optim.grad_norm([]) == 0.0
    assert float(optim.grad_norm(params[0])) == pytest.approx(exact_norm(params[:1]), rel=rounding)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_clip_grad_norm_follows_torch(dtype: str, max_norm: float, rounding: float):
    params = with_gradients(dtype)
    theirs = []
    for p in params:
        q = torch.zeros(p.shape, dtype=getattr(torch, dtype), requires_grad=True)
        if p.grad is not None:
            q.grad = torch.tensor(p.grad.numpy().astype(np.float32)).to(q.dtype)
        theirs.append(q)
    expected = exact_norm(params)
    torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert float(optim.clip_grad_norm_(params, max_norm)) == pytest.approx(expected, rel=rounding)
    far = 2.0**-7 if dtype == "bfloat16" else 1e-3  # torch's own float32 norm is that far off
    for p, q in zip(params, theirs, strict=True):
        if p.grad is not None:
            assert np.allclose(p.grad.numpy().astype(np.float32), q.grad.float().numpy(), rtol=far, atol=0)


def test_clip_coefficient_and_grad_scale_equal_clipping():
    clipped, scaled = with_gradients(), with_gradients()
    optim.clip_grad_norm_(clipped, 0.5)
    first, second = optim.SGD(clipped, lr=1.0), optim.SGD(scaled, lr=1.0)
    first.step()
    second.step(optim.clip_coefficient(optim.grad_norm(scaled), 0.5))
    for a, b in zip(clipped, scaled, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_clip_names_a_negative_norm():
    with pytest.raises(ValueError, match="max_norm must be at least 0, got -1"):
        optim.clip_grad_norm_(with_gradients(), -1.0)
