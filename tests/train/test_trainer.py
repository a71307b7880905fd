"""The training loop: accumulation, clipping, skipped steps, callbacks, evaluation."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import VOCAB_SIZE, batches, tiny_model, tokens, weights

import pymodel as pm
from pymodel import nn
from pymodel.data import LanguageModelBatches, evaluation_windows
from pymodel.errors import ConfigError, DataError, TrainingError
from pymodel.models import GPT2Config, GPT2LMHeadModel
from pymodel.optim import SGD, get_scheduler, grad_norm
from pymodel.train import Trainer, TrainerCallback, TrainingArguments, read_metrics

MakeTrainer = Callable[..., Trainer]


def gradients(trainer: Trainer) -> dict[str, np.ndarray]:
    """Runs one step with learning rate 0 and returns the gradients it had."""
    seen: dict[str, np.ndarray] = {}
    optimizer = SGD(trainer.model.parameters(), lr=0.0)

    def keep(grad_scale: float | pm.Tensor = 1.0) -> None:
        for name, parameter in trainer.model.named_parameters():
            assert parameter.grad is not None
            seen[name] = parameter.grad.numpy() * float(grad_scale)

    optimizer.step = keep  # type: ignore[method-assign]
    trainer._given_optimizers = (optimizer, get_scheduler("constant", optimizer))
    trainer.train()
    return seen


def test_trainer_learns(make_trainer: MakeTrainer) -> None:
    text = np.tile(np.arange(10), 50)
    dataset = LanguageModelBatches(text, 4, 9)
    trainer = make_trainer(
        tiny_model(dropout=0.0), train_dataset=dataset, max_steps=60, lr_scheduler_type="constant"
    )
    result = trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history]
    assert losses[0] > 3.5
    assert losses[-1] < 0.5
    assert result.global_step == len(losses) == 60
    assert result.training_loss == pytest.approx(np.mean(losses))


def test_trainer_accumulation_equals_one_large_batch(make_trainer: MakeTrainer) -> None:
    """Also when the batches have different numbers of target tokens, as ragged text has."""
    large = next(batches(batch_size=4))
    large["labels"][0, 3:] = -100
    large["labels"][1] = -100
    parts = [{name: rows[index : index + 1] for name, rows in large.items()} for index in range(4)]
    options: dict[str, Any] = {"max_steps": 1, "max_grad_norm": 0.0}
    whole = make_trainer(tiny_model(dropout=0.0), train_dataset=[large], **options)
    split = make_trainer(
        tiny_model(dropout=0.0), train_dataset=parts, gradient_accumulation_steps=4, **options
    )
    expected, got = gradients(whole), gradients(split)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert split.state.log_history[0]["loss"] == pytest.approx(whole.state.log_history[0]["loss"], rel=1e-6)
    assert split.state.num_input_tokens_seen == whole.state.num_input_tokens_seen == 2 * 8 + 2


def test_trainer_gives_the_same_bits_whether_it_keeps_weights_packed(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    @contextmanager
    def watched(model: nn.Module) -> Iterator[None]:
        with nn.packed_weights(model) as kept:
            yield
            sizes.append(kept.nbytes)

    monkeypatch.setattr("pymodel.train.trainer.packed_weights", watched)

    def losses(keep: bool) -> list[dict[str, Any]]:
        config = GPT2Config(vocab_size=VOCAB_SIZE, n_positions=128, n_embd=64, n_layer=1, n_head=2)
        pm.manual_seed(0)
        trainer = make_trainer(
            GPT2LMHeadModel(config),
            train_dataset=batches(batch_size=16, seq_len=65),
            eval_dataset=[next(batches(batch_size=16, seq_len=65))],
            gradient_accumulation_steps=2,
            max_steps=3,
            keep_packed_weights=keep,
        )
        trainer.train()
        trainer.evaluate()
        return [
            {name: value for name, value in entry.items() if "loss" in name or "norm" in name}
            for entry in trainer.state.log_history
        ]

    assert losses(True) == losses(False)
    assert len(sizes) == 1
    assert sizes[0] > 0


def test_trainer_clips_to_the_global_norm(make_trainer: MakeTrainer) -> None:
    free = make_trainer(tiny_model(dropout=0.0), max_steps=1, max_grad_norm=0.0)
    unclipped = gradients(free)
    norm = free.state.log_history[0]["grad_norm"]
    assert norm == pytest.approx(
        math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in unclipped.values()))
    )
    clipped = gradients(make_trainer(tiny_model(dropout=0.0), max_steps=1, max_grad_norm=norm / 4))
    for name in unclipped:
        np.testing.assert_allclose(clipped[name], unclipped[name] / 4, rtol=1e-4, err_msg=name)


class Poison(TrainerCallback):
    """Makes a weight NaN before certain steps and puts it right after them."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps

    def on_step_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        weight = context["model"].transformer.ln_f.bias.numpy()
        self.good = weight.copy()
        if state.global_step + 1 in self.steps:
            weight[0] = math.nan

    def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        if state.global_step in self.steps:
            weight = context["model"].transformer.ln_f.bias.numpy()
            assert math.isnan(weight[0])
            np.testing.assert_array_equal(weight[1:], self.good[1:])  # the step changed nothing
            weight[:] = self.good


def test_trainer_skips_steps_that_are_not_finite(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=6, callbacks=[Poison({2, 3})])
    result = trainer.train()
    assert result.metrics["skipped_steps"] == 2
    assert "loss" not in trainer.state.log_history[1]
    assert trainer.state.log_history[2]["skipped_steps"] == 2
    assert all(np.isfinite(array).all() for array in weights(trainer.model).values())
    counted = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(counted) == 4
    assert result.training_loss == pytest.approx(np.mean(counted))


def test_trainer_stops_when_the_run_has_diverged(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=9, max_skipped_steps=3, callbacks=[Poison(set(range(4, 10)))])
    with pytest.raises(
        TrainingError, match=r"step 6: the loss is nan, in 3 steps in a row; lower learning_rate"
    ):
        trainer.train()


def test_trainer_skips_a_step_without_targets(make_trainer: MakeTrainer) -> None:
    empty = next(batches())
    empty["labels"][:] = -100
    trainer = make_trainer(train_dataset=[next(batches()), empty], max_steps=2)
    before = weights(trainer.model)
    assert trainer.train().metrics["skipped_steps"] == 1
    assert any(not np.array_equal(before[name], after) for name, after in weights(trainer.model).items())


class Recorder(TrainerCallback):
    """Writes down which hook was called at which step."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def note(args: Any, state: Any, control: Any, **context: Any) -> None:
            assert {"model", "optimizer", "lr_scheduler", "processing_class"} <= set(context)
            self.calls.append((name, state.global_step))

        return note


def test_trainer_calls_back_in_order(make_trainer: MakeTrainer) -> None:
    recorder = Recorder()
    make_trainer(
        max_steps=2,
        logging_steps=2,
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_dataset=[next(batches())],
        callbacks=[recorder],
    ).train()
    assert recorder.calls == [
        ("on_train_begin", 0),
        ("on_step_begin", 0),
        ("on_step_end", 1),
        ("on_step_begin", 1),
        ("on_step_end", 2),
        ("on_log", 2),
        ("on_prediction_step", 2),
        ("on_log", 2),
        ("on_evaluate", 2),
        ("on_save", 2),
        ("on_train_end", 2),
    ]


def test_trainer_callback_may_stop_the_run(make_trainer: MakeTrainer) -> None:
    class StopAtThree(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            control.should_training_stop = state.global_step == 3

    trainer = make_trainer(save_strategy="steps", callbacks=[StopAtThree])
    assert trainer.train().global_step == 3
    assert Path(trainer.args.output_dir, "checkpoint-3").is_dir()  # the last step is saved


def test_trainer_goes_by_epochs(make_trainer: MakeTrainer) -> None:
    dataset = [next(batches()) for _ in range(5)]
    trainer = make_trainer(
        train_dataset=dataset, max_steps=-1, num_train_epochs=2, gradient_accumulation_steps=3
    )
    assert trainer.train().global_step == 4  # 10 batches in groups of 3
    assert trainer.state.epoch == pytest.approx(12 / 5)
    once = make_trainer(train_dataset=iter(dataset), max_steps=50)
    assert once.train().global_step == 5  # an iterator ends for good
    with pytest.raises(ConfigError, match="does not tell its length"):
        make_trainer(train_dataset=iter(dataset), max_steps=-1).train()


def test_trainer_takes_examples(make_trainer: MakeTrainer) -> None:
    ids = tokens()
    examples = [{"input_ids": ids[start : start + 3 + start % 6].tolist()} for start in range(0, 60, 6)]
    trainer = make_trainer(
        train_dataset=examples,
        eval_dataset=examples,
        per_device_train_batch_size=4,
        max_steps=-1,
        num_train_epochs=1,
    )
    result = trainer.train()
    targets = sum(len(example["input_ids"]) - 1 for example in examples)
    assert result.global_step == 3
    assert trainer.state.num_input_tokens_seen == targets
    assert trainer.evaluate()["eval_tokens"] == targets


def test_trainer_evaluates_every_token_without_dropout(make_trainer: MakeTrainer) -> None:
    held_out = tokens(100)
    trainer = make_trainer(eval_dataset=lambda: evaluation_windows(held_out, 3, 9), eval_text_bytes=150)
    trainer.model.train()
    metrics = trainer.evaluate()
    assert trainer.model.training
    assert metrics["eval_tokens"] == 99
    trainer.model.eval()
    whole = tiny_loss(trainer, held_out)
    assert metrics["eval_loss"] == pytest.approx(whole, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(whole), rel=1e-4)
    assert metrics["eval_bits_per_byte"] == pytest.approx(whole * 99 / 150 / math.log(2), rel=1e-5)
    assert not Path(trainer.args.output_dir).exists()  # evaluating alone leaves nothing behind


def tiny_loss(trainer: Trainer, text: np.ndarray) -> float:
    """Mean loss by windows of batch 1, weighted by hand."""
    sums = [
        (float(trainer.model(**batch).loss.item()), int((batch["labels"][:, 1:] != -100).sum()))
        for batch in evaluation_windows(text, 1, 9)
    ]
    return sum(loss * count for loss, count in sums) / sum(count for _, count in sums)


def test_trainer_logs_what_it_did(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=5, logging_steps=2, logging_first_step=True, warmup_steps=2)
    trainer.train()
    lines = read_metrics(Path(trainer.args.output_dir, "metrics.jsonl"))
    assert lines == trainer.state.log_history
    assert [line["step"] for line in lines] == [1, 2, 4, 5]
    assert [line["learning_rate"] for line in lines][:2] == [0.0, pytest.approx(0.005)]
    assert lines[-1]["num_input_tokens_seen"] == 5 * 4 * 8
    assert all(line["tokens_per_second"] > 0 and line["grad_norm"] > 0 for line in lines)


def test_trainer_does_not_decay_biases_and_norms(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=1, weight_decay=0.1)
    trainer.train()
    decays = {
        id(parameter): group["weight_decay"]
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in trainer.model.named_parameters():
        expected = 0.0 if name.endswith("bias") or ".ln_" in name else 0.1
        assert decays[id(parameter)] == expected, name


def test_trainer_bf16_keeps_float32_masters(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(bf16=True, max_steps=3)
    trainer.train()
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {"bfloat16"}
    assert {state["master"].dtype for state in trainer.optimizer.state.values()} == {"float32"}


def test_trainer_uses_the_optimizers_it_is_given(make_trainer: MakeTrainer) -> None:
    model = tiny_model()
    optimizer = SGD(model.parameters(), lr=0.5)
    trainer = make_trainer(model, optimizers=(optimizer, get_scheduler("constant", optimizer)), max_steps=2)
    trainer.train()
    assert trainer.optimizer is optimizer
    assert trainer.state.log_history[-1]["learning_rate"] == 0.5
    assert grad_norm(model.parameters()) == 0.0  # gradients are cleared after each step


def test_trainer_warm_steps_map_no_memory(make_trainer: MakeTrainer) -> None:
    class Watch(TrainerCallback):
        counts: list[int] = []  # noqa: RUF012 - one test, one list

        def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self.counts.append(pm.memory_stats()["system_allocations"])

    make_trainer(callbacks=[Watch()], max_steps=8, logging_steps=100).train()
    assert Watch.counts[3] == Watch.counts[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_dataset": None}, "train_dataset: expected batches to train on, got none"),
        ({"train_dataset": 5}, "train_dataset: expected an iterable of batches .* got int"),
        ({"eval_strategy": "steps"}, "eval_strategy: expected an eval_dataset"),
    ],
)
def test_trainer_bad_setup_is_an_error(
    make_trainer: MakeTrainer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trainer(**options).train()


def test_trainer_bad_datasets_are_errors(make_trainer: MakeTrainer) -> None:
    with pytest.raises(DataError, match="train_dataset: expected batches, got none"):
        make_trainer(train_dataset=[]).train()
    with pytest.raises(ConfigError, match="eval_dataset: expected batches to evaluate on, got none"):
        make_trainer().evaluate()
    with pytest.raises(ConfigError, match=r"eval_dataset: .* got an iterator"):
        make_trainer(eval_dataset=iter([])).evaluate()
    with pytest.raises(DataError, match="eval_dataset: expected target tokens, got none"):
        make_trainer(eval_dataset=[]).evaluate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": -2}, "max_steps: expected a whole number of 0 or more, or -1"),
        ({"logging_steps": 0}, "logging_steps: expected a whole number of 1 or more, got 0"),
        ({"save_steps": 1.5}, "save_steps: expected a whole number of 1 or more, got 1.5"),
        ({"learning_rate": -1e-3}, "learning_rate: expected a number of 0 or more, got -0.001"),
        ({"learning_rate": math.nan}, "learning_rate: expected a number of 0 or more, got nan"),
        ({"adam_beta2": 1.0}, "adam_beta2: expected a number of 0 or more and below 1, got 1.0"),
        ({"warmup_ratio": 1.1}, "warmup_ratio: expected a number of 0 or more"),
        ({"lr_scheduler_type": "cosin"}, "lr_scheduler_type: expected one of linear, .* got 'cosin'"),
        ({"eval_strategy": "epoch"}, "eval_strategy: expected one of no, steps, got 'epoch'"),
    ],
)
def test_trainer_bad_arguments_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingArguments(**options)
