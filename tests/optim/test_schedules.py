"""Learning-rate schedules against transformers'."""

import numpy as np
import pytest
import torch
import transformers

import pymodel as pm
from pymodel import optim

CASES = [
    ("linear", 3, 20, {}),
    ("linear", 0, 20, {}),
    ("cosine", 4, 21, {}),
    ("cosine", 4, 21, {"num_cycles": 1.5}),
    ("cosine_with_restarts", 2, 20, {"num_cycles": 3}),
    ("cosine_with_min_lr", 4, 20, {"min_lr": 0.01}),
    ("cosine_with_min_lr", 0, 20, {"min_lr_rate": 0.2}),
    ("polynomial", 3, 20, {}),
    ("polynomial", 3, 20, {"power": 2.0, "lr_end": 0.01}),
    ("constant", None, None, {}),
    ("constant_with_warmup", 5, None, {}),
    ("constant_with_warmup", 0, None, {}),
    ("inverse_sqrt", 4, None, {}),
    ("inverse_sqrt", 4, None, {"timescale": 30}),
]


def optimizer() -> optim.Optimizer:
    first, second = (pm.tensor([1.0], requires_grad=True) for _ in range(2))
    return optim.AdamW([{"params": [first]}, {"params": [second], "lr": 0.05}], lr=0.1)


@pytest.mark.parametrize(("name", "warmup", "total", "options"), CASES)
def test_schedule_equals_transformers(name, warmup, total, options):
    ours = optimizer()
    theirs = torch.optim.AdamW(
        [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.05}], lr=0.1
    )
    schedule = optim.get_scheduler(name, ours, warmup, total, options)
    reference = transformers.get_scheduler(name, theirs, warmup, total, options)
    for _ in range(25):
        assert schedule.get_last_lr() == pytest.approx(reference.get_last_lr(), rel=1e-12, abs=1e-18)
        assert [group["lr"] for group in ours.param_groups] == schedule.get_last_lr()
        schedule.step()
        theirs.step()
        reference.step()


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_schedule_resumes(name: str):
    options = {"min_lr_rate": 0.1} if name == "cosine_with_min_lr" else None
    first, second = optimizer(), optimizer()
    schedule = optim.get_scheduler(name, first, 3, 20, options)
    for _ in range(7):
        schedule.step()
    saved_optimizer, saved_schedule = first.state_dict(), schedule.state_dict()
    second.load_state_dict(saved_optimizer)
    resumed = optim.get_scheduler(name, second, 3, 20, options)
    resumed.load_state_dict(saved_schedule)
    for _ in range(5):
        assert resumed.get_last_lr() == schedule.get_last_lr()
        schedule.step()
        resumed.step()
    assert np.isfinite(resumed.get_last_lr()).all()


def test_schedule_names_what_is_wrong():
    with pytest.raises(ValueError, match="unknown name 'cosin'; expected one of linear, cosine"):
        optim.get_scheduler("cosin", optimizer(), 1, 2)
    with pytest.raises(ValueError, match="'linear' needs num_training_steps of at least 0, got None"):
        optim.get_scheduler("linear", optimizer(), 1)
    with pytest.raises(ValueError, match="'cosine' needs num_warmup_steps of at least 0, got -1"):
        optim.get_scheduler("cosine", optimizer(), -1, 10)
    with pytest.raises(ValueError, match="'cosine' has no option 'cycles'; it has 'num_cycles'"):
        optim.get_scheduler("cosine", optimizer(), 1, 10, {"cycles": 2})
    with pytest.raises(ValueError, match="'linear' has no option 'power'; it has none"):
        optim.get_scheduler("linear", optimizer(), 1, 10, {"power": 2})
    with pytest.raises(ValueError, match="exactly one of min_lr and min_lr_rate"):
        optim.get_scheduler("cosine_with_min_lr", optimizer(), 1, 10)
    with pytest.raises(ValueError, match=r"lr_end must be below the rate 0.1, got 0.1"):
        optim.get_scheduler("polynomial", optimizer(), 1, 10, {"lr_end": 0.1})
    with pytest.raises(ValueError, match=r"min_lr must be below the rate 0.1, got 1.0"):
        optim.get_scheduler("cosine_with_min_lr", optimizer(), 1, 10, {"min_lr": 1.0})
    state = optim.get_scheduler("constant", optimizer()).state_dict()
    single = optim.AdamW([pm.tensor([1.0], requires_grad=True)])
    with pytest.raises(ValueError, match="of 2 parameter groups, the optimizer has 1"):
        optim.get_scheduler("constant", single).load_state_dict(state)
