"""Optimizers on devices: the CPU's steps, scales that nobody waits for, steps that replay in a graph."""

import math
from typing import Any

import numpy as np
import pytest
from memory import shifted

import pymodel as pm
from pymodel import _core, cuda, optim

MAKERS: dict[str, Any] = {
    "adamw": lambda p, **o: optim.AdamW(p, lr=0.02, weight_decay=0.1, **o),
    # Where a gradient and its penalty cancel, a tiny eps would blow their rounding up to a whole step.
    "adam": lambda p, **o: optim.Adam(p, lr=0.01, weight_decay=0.3, eps=1e-3, **o),
    "sgd": lambda p, **o: optim.SGD(p, lr=0.1, **o),
    "nesterov": lambda p, **o: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, **o),
}
DTYPES = ("float32", "bfloat16", "float16")
# Sizes around a pack, a block of threads and a block's elements.
SIZES = (1, 3, 4, 8, 31, 257, 1024, 4095, 4096, 4097)

accelerated = pytest.mark.usefixtures("accelerator")


@pytest.fixture
def accelerator(device: str) -> None:
    if device == "cpu":
        pytest.skip("about tensors on a device")


def parameters(device: str, count: int = len(SIZES), odd: bool = False) -> list[pm.Tensor]:
    """Of all dtypes and sizes in turn; `odd` ones do not start at multiples of 16 bytes."""
    result = []
    for i in range(count):
        values = np.random.default_rng(i).standard_normal(SIZES[i % len(SIZES)])
        dtype = DTYPES[i % 3]
        with pm.device(device):
            tensor = shifted(values, dtype, 1 + i % 3) if odd else pm.tensor(values, dtype=dtype)
        result.append(tensor.requires_grad_())
    return result


def set_gradients(params: list[pm.Tensor], step: int, scale: float = 1.0) -> None:
    """The same values for every device; written in place where a gradient is there."""
    for i, p in enumerate(params):
        values = scale * np.random.default_rng([step, i]).standard_normal(p.shape)
        gradient = pm.tensor(values, dtype=p.dtype, device=p.device)
        if p.grad is None:
            p.grad = gradient
        else:
            _core.copy(gradient._array, p.grad._array)


def assert_close(ours: list[pm.Tensor], theirs: list[pm.Tensor]) -> None:
    """To the rounding of a few steps: the CPU may fuse other multiplications with additions."""
    for a, b in zip(ours, theirs, strict=True):
        rounding = {"float32": 1e-6, "float16": 2.0**-10, "bfloat16": 2.0**-7}[a.dtype]
        x, y = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
        np.testing.assert_allclose(x, y, rtol=rounding, atol=1e-6)


@accelerated
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("count", "odd"), [(10, False), (10, True), (150, False)])
def test_optimizer_steps_on_a_device_as_on_the_cpu(name: str, count: int, odd: bool, device: str) -> None:
    host, there = parameters("cpu", count), parameters(device, count, odd)
    optimizers = [MAKERS[name](host), MAKERS[name](there)]
    for step in range(5):
        for params, optimizer in zip((host, there), optimizers, strict=True):
            set_gradients(params, step)
            optimizer.step(0.5)
    assert_close(there, host)


@accelerated
@pytest.mark.parametrize("name", ["adamw", "nesterov"])
def test_optimizer_state_moves_between_devices(name: str, device: str) -> None:
    host, there = parameters("cpu"), parameters(device)
    first = MAKERS[name](there)
    for step in range(2):
        set_gradients(there, step)
        first.step()
    for mine, its in zip(host, there, strict=True):
        _core.copy(pm.tensor(its.numpy(), device="cpu")._array, mine._array)
    second = MAKERS[name](host)
    second.load_state_dict(first.state_dict())
    third = MAKERS[name](there, **({"capturable": True} if name == "adamw" else {}))
    third.load_state_dict(second.state_dict())
    for step in range(2, 5):
        for params, optimizer in ((host, second), (there, third)):
            set_gradients(params, step)
            optimizer.step()
    assert_close(there, host)
    steps = [state["step"] for state in third.state_dict()["state"].values()]
    assert steps == [5] * len(there)


@accelerated
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clipping_on_a_device_waits_for_nothing_and_equals_the_cpu(max_norm: float, device: str) -> None:
    host, there, folded = parameters("cpu"), parameters(device), parameters(device)
    for params in (host, there, folded):
        set_gradients(params, 0)
        optimizer = MAKERS["nesterov"](params)
        if params is folded:
            coefficient = optim.clip_coefficient(optim.grad_norm(params), max_norm)
            assert isinstance(coefficient, pm.Tensor)
            assert coefficient.device == device
            optimizer.step(coefficient)
        else:
            norm = optim.clip_grad_norm_(params, max_norm)
            assert isinstance(norm, pm.Tensor) is (params is there)
            optimizer.step()
    assert_close(there, host)
    assert_close(folded, host)


@accelerated
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_optimizer_leaves_out_a_step_that_is_not_finite(name: str, value: float, device: str) -> None:
    params = parameters(device)
    options = {"capturable": True} if name.startswith("adam") else {}
    optimizer = MAKERS[name](params, **options)
    set_gradients(params, 0)
    optimizer.step()
    before = [p.numpy().copy() for p in params]
    params[3].grad = pm.tensor(np.full(SIZES[3], value), dtype=params[3].dtype)
    optimizer.step(optim.clip_coefficient(optim.grad_norm(params), 1.0))
    for p, old in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    if options:
        assert all(int(state["step"]) == 1 for state in optimizer.state.values())


@accelerated
@pytest.mark.parametrize("rate", ["number", "tensor"])
def test_adamw_that_counts_on_the_device_equals_the_one_that_does_not(rate: str, device: str) -> None:
    results = []
    for capturable in (False, True):
        params = parameters(device)
        lr = pm.tensor(0.02) if capturable and rate == "tensor" else 0.02
        optimizer = optim.AdamW(params, lr=lr, weight_decay=0.1, capturable=capturable)
        schedule = optim.get_scheduler("linear", optimizer, 2, 10)
        for step in range(5):
            set_gradients(params, step)
            optimizer.step()
            schedule.step()
        assert schedule.get_last_lr() == pytest.approx([0.02 * 5 / 8])
        results.append(params)
    assert_close(*results)


@accelerated
@pytest.mark.parametrize("name", ["adamw", "nesterov"])
def test_optimizer_step_replays_in_a_graph(name: str, device: str) -> None:
    """Rates, steps and clipping move on from replay to replay."""
    results = []
    for captured in (False, True):
        params = parameters(device)
        lr = pm.tensor(0.0)
        options = {"capturable": True} if name == "adamw" else {}
        optimizer = MAKERS[name](params, **options)
        optimizer.param_groups[0]["lr"] = lr
        graph = cuda.Graph(device)

        def step(optimizer=optimizer, params=params) -> None:
            optimizer.step(optim.clip_coefficient(optim.grad_norm(params), 5.0))

        for i in range(5):
            set_gradients(params, i)
            optim.optimizer.set_lr(optimizer.param_groups[0], 0.01 * (i + 1))
            if captured and i == 1:
                with cuda.graph(graph):
                    step()
            if captured and i >= 1:
                graph.replay()
            else:
                step()
        results.append(params)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_optimizer_names_rates_and_devices_that_do_not_fit(device: str) -> None:
    params = parameters(device)
    with pytest.raises(ValueError, match="a tensor lr must be float32 without dimensions, got int64"):
        optim.AdamW(params, lr=pm.tensor(1))
    if device == "cpu":
        with pytest.raises(ValueError, match="capturable is for parameters on a device"):
            optim.AdamW(params, capturable=True)
        return
    optimizer = optim.AdamW(params, lr=pm.tensor(0.1))
    set_gradients(params, 0)
    with pytest.raises(ValueError, match="an lr on a device needs capturable=True"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"grad_scale must have shape \(\), got \(2,\)"):
        optim.SGD(params).step(pm.zeros((2,)))
