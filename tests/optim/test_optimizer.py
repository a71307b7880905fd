"""Parameter groups, errors, and saving and resuming."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import pymodel as pm
from pymodel import optim

MAKERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adamw": lambda p: optim.AdamW(p, lr=0.03),
    "adam": lambda p: optim.Adam(p, weight_decay=0.1),
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
}


def parameters(dtype: str = "float32") -> list[pm.Tensor]:
    rng = np.random.default_rng(0)
    return [
        pm.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True) for shape in [(3, 4), (5,)]
    ]


def step(optimizer: optim.Optimizer, params: list[pm.Tensor], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = pm.tensor(rng.standard_normal(p.shape), dtype=p.dtype)
    optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_optimizer_resumes_to_the_same_bits(name: str, dtype: str):
    params = parameters(dtype)
    optimizer = MAKERS[name](params)
    for seed in range(3):
        step(optimizer, params, seed)
    # To disk and back: numbers become strings, tensors NumPy arrays.
    saved = optimizer.state_dict()
    saved["state"] = {
        str(i): {k: v.numpy().copy() if isinstance(v, pm.Tensor) else v for k, v in state.items()}
        for i, state in saved["state"].items()
    }
    copies = [pm.tensor(p, requires_grad=True) for p in params]
    resumed = MAKERS[name](copies)
    resumed.param_groups[0]["lr"] = 7.0  # the state brings its own
    resumed.load_state_dict(saved)
    for seed in range(3, 6):
        step(optimizer, params, seed)
        step(resumed, copies, seed)
    for a, b in zip(params, copies, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_optimizer_loads_the_state_of_torch():
    params = parameters()
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in params]
    torch_optimizer = torch.optim.AdamW(theirs, lr=0.03)
    for i, p in enumerate(theirs):
        p.grad = torch.full(p.shape, 0.1 * (i + 1))
    torch_optimizer.step()
    ours = [pm.tensor(p.detach().numpy(), requires_grad=True) for p in theirs]
    optimizer = optim.AdamW(ours)
    optimizer.load_state_dict(torch_optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.03
    torch_optimizer.step()
    for mine, p in zip(ours, theirs, strict=True):
        mine.grad = pm.tensor(p.grad.numpy())
    optimizer.step()
    for mine, p in zip(ours, theirs, strict=True):
        assert np.allclose(mine.numpy(), p.detach().numpy(), rtol=0, atol=1e-6)


def test_optimizer_named_parameters_and_added_groups():
    first, second = parameters()
    optimizer = optim.AdamW([("a", first)])
    optimizer.add_param_group({"params": [("b", second)], "lr": 0.5, "name": "late"})
    assert [group["param_names"] for group in optimizer.param_groups] == [["a"], ["b"]]
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.5]
    step(optimizer, [first, second], 0)
    assert optimizer.state_dict()["param_groups"][1]["params"] == [1]


def test_optimizer_zero_grad():
    params = parameters()
    optimizer = optim.AdamW(params)
    params[0].grad = pm.tensor(np.ones((3, 4)))
    memory = params[0].grad
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad is memory
    assert not memory.numpy().any()
    assert params[1].grad is None
    optimizer.zero_grad()
    assert params[0].grad is None


def test_optimizer_step_without_gradients_changes_nothing():
    params = parameters()
    optimizer = optim.AdamW(params)
    before = [p.numpy().copy() for p in params]
    optimizer.step()
    assert all(np.array_equal(a, p.numpy()) for a, p in zip(before, params, strict=True))
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "AdamW: lr must be at least 0, got -1.0"),
        ({"lr": float("nan")}, "AdamW: lr must be at least 0, got nan"),
        ({"eps": -1e-8}, "AdamW: eps must be at least 0"),
        ({"weight_decay": -0.1}, "AdamW: weight_decay must be at least 0"),
        ({"betas": (0.9, 1.0)}, r"AdamW: betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (-0.1, 0.9)}, "AdamW: betas must be two numbers"),
    ],
)
def test_optimizer_names_an_option_out_of_range(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        optim.AdamW(parameters(), **options)
    with pytest.raises(ValueError, match=message):
        optim.AdamW([{"params": parameters(), **options}])


def test_optimizer_names_wrong_parameters():
    a, b = parameters()
    with pytest.raises(ValueError, match="params is empty"):
        optim.AdamW([])
    with pytest.raises(TypeError, match=r"params must be a list .* got a single Tensor"):
        optim.AdamW(a)
    with pytest.raises(ValueError, match="parameter 'c' is given twice"):
        optim.AdamW([("a", a), ("b", b), ("c", a)])
    with pytest.raises(ValueError, match="parameter 0 is given twice"):
        optim.AdamW([{"params": [a, b]}, {"params": [a]}])
    with pytest.raises(TypeError, match="parameter 1 must be a floating-point tensor, got int64"):
        optim.AdamW([a, pm.tensor([1, 2])])
    with pytest.raises(TypeError, match="parameter 0 must be a floating-point tensor, got str"):
        optim.AdamW("weights")
    with pytest.raises(ValueError, match=r"unknown option 'learning_rate' .* expected 'lr', 'betas'"):
        optim.AdamW([{"params": [a], "learning_rate": 0.1}])
    with pytest.raises(ValueError, match="a parameter group must have"):
        optim.AdamW([{"parameters": [a]}])
    with pytest.raises(ValueError, match="result of an operation"):
        optim.AdamW([pm.ops.layer_norm(a, None, None)])
    with pytest.raises(ValueError, match="nesterov needs momentum above 0"):
        optim.SGD([a], nesterov=True)


def test_optimizer_names_wrong_gradients():
    params = parameters()
    optimizer = optim.AdamW(params)
    params[1].grad = pm.tensor(np.ones(4))
    with pytest.raises(ValueError, match=r"adamw: grads\[0\] must have shape \(5,\), got \(4,\)"):
        optimizer.step()
    params[1].grad = pm.tensor(np.ones(5), dtype="bfloat16")
    with pytest.raises(TypeError, match=r"adamw: grads\[0\] must be float32, got bfloat16"):
        optimizer.step()
    params[1].grad = pm.tensor(np.ones(5))
    with pytest.raises(ValueError, match="grad_scale must be finite, got nan"):
        optimizer.step(grad_scale=float("nan"))


def test_optimizer_refuses_a_state_that_does_not_fit():
    params = parameters()
    optimizer = optim.AdamW(params)
    step(optimizer, params, 0)
    state = optimizer.state_dict()
    with pytest.raises(
        ValueError, match=r"groups with \[2\] parameters, this optimizer has groups with \[1\]"
    ):
        optim.AdamW(params[:1]).load_state_dict(state)
    swapped = optim.AdamW(params[::-1], lr=0.7)
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0 must have shape \(5,\), got \(3, 4\)"):
        swapped.load_state_dict(state)
    assert swapped.state == {}
    assert swapped.param_groups[0]["lr"] == 0.7
    with pytest.raises(ValueError, match="unknown entries exp_avg, exp_avg_sq"):
        optim.SGD(params).load_state_dict(state)
