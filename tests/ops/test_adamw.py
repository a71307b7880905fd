"""AdamW, Adam and SGD against torch's, step by step."""

from typing import Any

import numpy as np
import pytest
import torch
from reference import TORCH_DTYPES, assert_as_good_as_torch, to_float64, to_torch

import pymodel as pm
from pymodel import _core, optim

# A scalar, an empty tensor, rows that end within a vector, and one that spans several chunks.
SHAPES = [(), (0, 3), (7,), (33, 5), (64, 64), (40001,)]
OPTIMIZERS: dict[str, Any] = {
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1}),
    "adamw-no-decay": (
        optim.AdamW,
        torch.optim.AdamW,
        {"lr": 0.02, "weight_decay": 0.0, "betas": (0.8, 0.95)},
    ),
    "adamw-large-eps": (optim.AdamW, torch.optim.AdamW, {"lr": 0.02, "eps": 0.5}),
    "adam-l2": (optim.Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.3}),
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.1}),
    "sgd-momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2}),
    "sgd-nesterov": (
        optim.SGD,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
}


def values(seed: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def gradients(step: int, dtype: str) -> list[pm.Tensor | None]:
    """Rounded to the dtype; tiny at every third step, and parameter 2 has none at even ones."""
    scale = 1e-3 if step % 3 == 0 else 1.0
    rounded = [pm.tensor(x, dtype=dtype) for x in values(step + 1, scale)]
    return [None if i == 2 and step % 2 == 0 else g for i, g in enumerate(rounded)]


def run(make, dtype: str, grad_scale: float = 1.0, steps: int = 10) -> tuple[list[pm.Tensor], Any]:
    """Our optimizer after some steps on parameters and gradients of the dtype."""
    params = [pm.tensor(x, dtype=dtype, requires_grad=True) for x in values(0)]
    optimizer = make(params)
    for step in range(steps):
        for parameter, gradient in zip(params, gradients(step, dtype), strict=True):
            parameter.grad = gradient
        optimizer.step(grad_scale)
    return params, optimizer


def run_torch(make, dtype: str, precision: torch.dtype, grad_scale: float) -> list[torch.Tensor]:
    """torch after ten steps at this precision, on the same values."""
    params = [to_torch(pm.tensor(x, dtype=dtype).numpy(), precision).requires_grad_() for x in values(0)]
    optimizer = make(params)
    for step in range(10):
        for parameter, gradient in zip(params, gradients(step, dtype), strict=True):
            scaled = None if gradient is None else to_torch(gradient.numpy(), precision) * grad_scale
            parameter.grad = scaled
        optimizer.step()
    return params


def joined(tensors) -> np.ndarray:
    """All elements in one vector: after ten roundings, the luck of a single number is no yardstick."""
    return np.concatenate([to_float64(t).reshape(-1) for t in tensors])


def assert_follows_torch(ours, theirs, dtype: str = "float32", grad_scale: float = 1.0) -> None:
    """`ours` and `theirs` make an optimizer from parameters; both run ten steps."""
    params, optimizer = run(ours, dtype, grad_scale=grad_scale)
    same = run_torch(theirs, dtype, torch.float32, grad_scale)
    exact = joined(run_torch(theirs, dtype, torch.float64, grad_scale))
    rounded = [p.detach().to(TORCH_DTYPES[dtype]) for p in same]
    assert_as_good_as_torch(joined(params), joined(rounded), exact, dtype, "parameters")
    if dtype != "float32":  # the masters keep what the parameters cannot hold
        masters = [optimizer.state[i]["master"] for i in range(len(params))]
        assert_as_good_as_torch(joined(masters), joined(same), exact, "float32", "masters")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_optimizer_follows_torch_for_ten_steps(name: str, dtype: str):
    ours, theirs, options = OPTIMIZERS[name]
    assert_follows_torch(lambda p: ours(p, **options), lambda p: theirs(p, **options), dtype)


@pytest.mark.parametrize("name", ["adamw", "adam-l2", "sgd-nesterov"])
def test_optimizer_grad_scale_scales_the_gradients(name: str):
    ours, theirs, options = OPTIMIZERS[name]
    assert_follows_torch(lambda p: ours(p, **options), lambda p: theirs(p, **options), grad_scale=0.37)


def test_optimizer_groups_have_options_of_their_own():
    def groups(params):
        return [
            {"params": params[:3], "weight_decay": 0.0},
            {"params": params[3:], "lr": 0.005, "betas": (0.5, 0.9), "eps": 1e-3},
        ]

    options: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.2}
    assert_follows_torch(
        lambda p: optim.AdamW(groups(p), **options), lambda p: torch.optim.AdamW(groups(p), **options)
    )


@pytest.mark.parametrize("name", ["adamw", "sgd-momentum"])
def test_optimizer_does_not_depend_on_threads(name: str):
    ours_class, _, options = OPTIMIZERS[name]
    results = []
    before = pm.get_num_threads()
    try:
        for threads in (1, 2, 3):
            pm.set_num_threads(threads)
            params, _ = run(lambda p: ours_class(p, **options), "float32", steps=3)
            results.append([p.numpy().tobytes() for p in params])
    finally:
        pm.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_adamw_moves_small_steps_that_bfloat16_cannot_hold():
    parameter = pm.tensor(np.ones(3), dtype="bfloat16", requires_grad=True)
    optimizer = optim.AdamW([parameter], lr=1e-3, weight_decay=0.0)
    for _ in range(20):
        parameter.grad = pm.tensor(np.ones(3), dtype="bfloat16")
        optimizer.step()
    assert np.allclose(parameter.numpy().astype(np.float32), 1 - 20e-3, atol=2**-8)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_adamw_takes_values_written_between_steps(dtype: str):
    parameter = pm.tensor(np.linspace(-1, 1, 37), dtype=dtype, requires_grad=True)
    optimizer = optim.AdamW([parameter], lr=0.0)
    gradient = pm.tensor(np.ones(37), dtype=dtype)
    parameter.grad = gradient
    optimizer.step()
    expected = parameter.numpy().copy()
    expected[5:20] = 3.0
    _core.copy(pm.tensor(expected)._array, parameter._array)
    optimizer.step()
    assert np.array_equal(parameter.numpy(), expected)
    assert np.array_equal(optimizer.state[0]["master"].numpy()[5:20], np.full(15, 3.0, np.float32))


def test_adamw_lets_nan_through():
    parameter = pm.tensor([1.0, 2.0], requires_grad=True)
    parameter.grad = pm.tensor([float("nan"), 0.0])
    optim.AdamW([parameter], weight_decay=0.0).step()
    assert np.isnan(parameter.numpy()[0])
    assert parameter.numpy()[1] == 2.0
