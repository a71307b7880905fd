"""The trainer on a device: the steps of the CPU, checkpoints that move, steps that are left out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import ACCELERATORS
from tiny_training import batches, tiny_model, weights

import pymodel as pm
from pymodel.errors import TrainingError
from pymodel.train import Trainer, TrainerCallback

MakeTrainer = Callable[..., Trainer]
pytestmark = pytest.mark.parametrize("name", ACCELERATORS)

RUN: dict[str, Any] = {
    "max_steps": 6,
    "gradient_accumulation_steps": 2,
    "weight_decay": 0.1,
    "warmup_steps": 2,
}


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_trainer_takes_the_steps_of_the_cpu(make_trainer: MakeTrainer, tmp_path: Path, name: str) -> None:
    there = make_trainer(**RUN, device=name, eval_dataset=[next(batches())])
    here = make_trainer(**RUN, output_dir=str(tmp_path / "cpu"), eval_dataset=[next(batches())])
    for trainer in (there, here):
        trainer.train()
    assert all(parameter.device == name for parameter in there.model.parameters())
    np.testing.assert_allclose(losses(there), losses(here), rtol=1e-5)
    for key in ("grad_norm", "learning_rate"):
        got, expected = ([entry[key] for entry in t.state.log_history if key in entry] for t in (there, here))
        np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert there.evaluate()["eval_loss"] == pytest.approx(here.evaluate()["eval_loss"], rel=1e-4)


def test_trainer_resumes_to_the_same_bits(make_trainer: MakeTrainer, tmp_path: Path, name: str) -> None:
    options = {**RUN, "save_strategy": "steps", "save_steps": 3, "device": name}
    straight = make_trainer(**options, output_dir=str(tmp_path / "straight"))
    straight.train()
    first = make_trainer(**{**options, "save_total_limit": None})
    first.train()
    second = make_trainer(tiny_model(seed=9), **options)
    second.train(resume_from_checkpoint=Path(first.args.output_dir, "checkpoint-3"))
    for key, expected in weights(straight.model).items():
        assert weights(second.model)[key].tobytes() == expected.tobytes(), key
    assert losses(straight) == losses(second)


@pytest.mark.parametrize("back", [False, True])
def test_trainer_checkpoint_moves_between_devices(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, back: bool
) -> None:
    """What is read on the other device has the bits that were written."""
    source, target = (name, "cpu") if back else ("cpu", name)
    options = {**RUN, "save_strategy": "steps", "save_steps": 3}
    first = make_trainer(**{**options, "max_steps": 3}, device=source, output_dir=str(tmp_path / "first"))
    first.train()
    second = make_trainer(tiny_model(seed=9), **{**options, "max_steps": 3}, device=target)
    second.train(resume_from_checkpoint=Path(first.args.output_dir, "checkpoint-3"))
    for key, expected in weights(first.model).items():
        assert weights(second.model)[key].tobytes() == expected.tobytes(), key
    states = [trainer.optimizer.state_dict()["state"] for trainer in (first, second)]
    for index, entry in states[0].items():
        for key, value in entry.items():
            assert np.asarray(states[1][index][key]).tobytes() == np.asarray(value).tobytes(), (index, key)
    # And it goes on there.
    third = make_trainer(tiny_model(seed=9), **options, device=target)
    third.train(resume_from_checkpoint=Path(first.args.output_dir, "checkpoint-3"))
    assert third.state.global_step == 6


class Poison(TrainerCallback):
    """Puts a NaN into a weight before some steps and takes it out after them."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps

    def on_step_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        bias = context["model"].transformer.ln_f.bias
        self.good = bias.numpy().copy()
        if state.global_step + 1 in self.steps:
            bias.detach()[0] = math.nan

    def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        if state.global_step in self.steps:
            bias = context["model"].transformer.ln_f.bias
            np.testing.assert_array_equal(bias.numpy()[1:], self.good[1:], "the step changed something")
            bias.detach().copy_(pm.tensor(self.good))


def test_trainer_leaves_out_steps_that_are_not_finite(
    make_trainer: MakeTrainer, tmp_path: Path, name: str
) -> None:
    options: dict[str, Any] = {"max_steps": 6, "logging_steps": 3}
    there = make_trainer(**options, device=name, callbacks=[Poison({2, 3})])
    result = there.train()
    assert result.metrics["skipped_steps"] == 2
    assert all(np.isfinite(array).all() for array in weights(there.model).values())
    assert {int(s["step"]) for s in there.optimizer.state_dict()["state"].values()} == {4}
    here = make_trainer(**options, output_dir=str(tmp_path / "cpu"), callbacks=[Poison({2, 3})])
    here.train()
    np.testing.assert_allclose(losses(there), losses(here), rtol=1e-5)


def test_trainer_gives_up_when_nothing_is_finite(make_trainer: MakeTrainer, name: str) -> None:
    model = tiny_model()
    next(iter(model.parameters())).detach()[0, 0] = math.nan
    trainer = make_trainer(model, device=name, max_skipped_steps=3)
    with pytest.raises(TrainingError, match="step 3: the loss is nan, in 3 steps in a row"):
        trainer.train()


def test_trainer_waits_for_no_step_that_the_device_was_just_given(
    make_trainer: MakeTrainer, name: str
) -> None:
    """Between logs the host learns of a step only after it has given the device the next."""
    known: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            known.append(context["loss"])

    make_trainer(max_steps=4, logging_steps=4, device=name, callbacks=[Watch()]).train()
    logged = make_trainer(max_steps=4, logging_steps=1, device=name)
    logged.train()
    first, second, _, fourth = losses(logged)
    assert math.isnan(known[0])
    assert known[1:] == [first, second, fourth]
