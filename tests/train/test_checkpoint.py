"""Checkpoints: resuming to the same bits, and never a half-written folder."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import batches, tiny_model, weights

from pymodel.errors import CheckpointError, ConfigError
from pymodel.models import GPT2LMHeadModel
from pymodel.optim import SGD, get_scheduler
from pymodel.text import Tokenizer
from pymodel.train import Trainer, TrainerCallback, TrainingInterrupted, latest_checkpoint, read_metrics
from pymodel.train.tensor_file import load_state, save_state

MakeTrainer = Callable[..., Trainer]

# Everything that could go astray: dropout, accumulation, a log window across the checkpoint, decay, warm-up.
RUN: dict[str, Any] = {
    "max_steps": 10,
    "save_strategy": "steps",
    "save_steps": 5,
    "logging_steps": 3,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "weight_decay": 0.1,
}


class StopAfter(TrainerCallback):
    """Sends this process a signal after a step."""

    def __init__(self, step: int, signal_number: int = signal.SIGINT) -> None:
        self.step, self.signal_number = step, signal_number

    def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.signal_number)


def timeless(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "eval_runtime")} for line in log]


def assert_same_bits(one: Trainer, other: Trainer) -> None:
    expected, got = weights(one.model), weights(other.model)
    for name in expected:
        assert expected[name].tobytes() == got[name].tobytes(), name
    assert timeless(one.state.log_history) == timeless(other.state.log_history)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_checkpoint_resume_gives_the_same_bits(make_trainer: MakeTrainer, tmp_path: Path, dtype: str) -> None:
    straight = make_trainer(tiny_model(dtype=dtype), **RUN, output_dir=str(tmp_path / "straight"))
    expected = straight.train()
    first = make_trainer(tiny_model(dtype=dtype), **RUN, callbacks=[StopAfter(5)])
    with pytest.raises(TrainingInterrupted):
        first.train()
    second = make_trainer(tiny_model(seed=9, dtype=dtype), **RUN)  # other weights: the checkpoint's count
    got = second.train(resume_from_checkpoint=True)
    assert_same_bits(straight, second)
    assert got.training_loss == expected.training_loss
    metrics = [read_metrics(Path(t.args.output_dir, "metrics.jsonl")) for t in (straight, second)]
    assert timeless(metrics[0]) == timeless(metrics[1])


@pytest.mark.parametrize("dataset", ["list", "examples"])
def test_checkpoint_resume_finds_its_place_in_any_dataset(
    make_trainer: MakeTrainer, tmp_path: Path, dataset: str
) -> None:
    def data() -> Any:
        source = batches()
        rows = [next(source) for _ in range(7)]
        return rows if dataset == "list" else [{"input_ids": row["input_ids"][0]} for row in rows]

    straight = make_trainer(train_dataset=data(), **RUN, output_dir=str(tmp_path / "straight"))
    straight.train()
    with pytest.raises(TrainingInterrupted):
        make_trainer(train_dataset=data(), **RUN, callbacks=[StopAfter(6)]).train()
    resumed = make_trainer(train_dataset=data(), **RUN)
    resumed.train(resume_from_checkpoint="auto")
    assert_same_bits(straight, resumed)


def test_checkpoint_resume_drops_what_was_logged_after_it(make_trainer: MakeTrainer) -> None:
    run = {**RUN, "logging_steps": 1}
    make_trainer(**run).train()
    resumed = make_trainer(**run)
    output = Path(resumed.args.output_dir)
    with open(output / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 11, "lo')  # a line that a kill cut off
    resumed.train(resume_from_checkpoint=output / "checkpoint-5")
    assert [line["step"] for line in read_metrics(output / "metrics.jsonl")] == list(range(1, 11))
    assert (output / "metrics.jsonl").read_text().count("\n") == 10


def test_checkpoint_holds_a_model_folder(make_trainer: MakeTrainer) -> None:
    tokenizer = Tokenizer.train(["some text"], 300)
    trainer = make_trainer(**RUN, processing_class=tokenizer)
    trainer.train()
    folder = latest_checkpoint(trainer.args.output_dir)
    assert folder is not None
    assert folder.name == "checkpoint-10"
    names = (
        "config.json model.safetensors optimizer.safetensors scheduler.json rng_state.json data_state.json"
    )
    files = {path.name for path in folder.iterdir()}
    assert {*names.split(), "trainer_state.json", "training_args.json", "tokenizer.json"} <= files
    loaded = GPT2LMHeadModel.from_pretrained(folder)
    for name, array in weights(trainer.model).items():
        np.testing.assert_array_equal(loaded.state_dict()[name].numpy(), array)
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 10


def test_checkpoint_keeps_the_newest(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**{**RUN, "save_steps": 2}, save_total_limit=2)
    trainer.train()
    left = sorted(path.name for path in Path(trainer.args.output_dir).iterdir())
    assert left == ["checkpoint-10", "checkpoint-8", "metrics.jsonl"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_checkpoint_is_written_when_a_signal_stops_the_run(make_trainer: MakeTrainer, number: int) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    trainer = make_trainer(**{**RUN, "save_steps": 100}, callbacks=[StopAfter(4, number)])
    with pytest.raises(TrainingInterrupted, match="training stopped after step 4") as caught:
        trainer.train()
    assert caught.value.checkpoint == Path(trainer.args.output_dir, "checkpoint-4")
    assert latest_checkpoint(trainer.args.output_dir) == caught.value.checkpoint
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_checkpoint_signal_ends_a_long_evaluation(make_trainer: MakeTrainer) -> None:
    class Interrupt(TrainerCallback):
        seen = 0

        def on_prediction_step(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self.seen += 1
            if self.seen == 2:
                os.kill(os.getpid(), signal.SIGINT)

    interrupt = Interrupt()
    trainer = make_trainer(
        **RUN, eval_strategy="steps", eval_dataset=[next(batches())] * 50, callbacks=[interrupt]
    )
    with pytest.raises(TrainingInterrupted):
        trainer.train()
    assert interrupt.seen == 2
    assert trainer.evaluate()["eval_tokens"] == 50 * 32  # later evaluations are whole again


def test_checkpoint_second_signal_interrupts_at_once(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**RUN, callbacks=[StopAfter(2), StopAfter(2)])
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.train()
    assert not isinstance(caught.value, TrainingInterrupted)
    assert latest_checkpoint(trainer.args.output_dir) is None


@pytest.mark.parametrize("failing", ["optimizer.safetensors", "trainer_state.json", "model.safetensors"])
def test_checkpoint_full_disk_leaves_the_earlier_one(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    trainer = make_trainer(**RUN)
    output = Path(trainer.args.output_dir)
    real_open, real_write = open, Path.write_text

    def fail(path: Any) -> None:
        path = Path(path)
        if failing in path.name and "checkpoint-10" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def full_open(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "w" in mode:
            fail(path)
        return real_open(path, mode, *rest, **options)

    def full_write(path: Path, *rest: Any, **options: Any) -> int:
        fail(path)
        return real_write(path, *rest, **options)

    monkeypatch.setattr("builtins.open", full_open)
    monkeypatch.setattr(Path, "write_text", full_write)
    with pytest.raises(
        CheckpointError, match=r"checkpoint-10: cannot be written \(No space left on device\)"
    ):
        trainer.train()
    monkeypatch.undo()
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-5", "metrics.jsonl"]
    resumed = make_trainer(**RUN)
    resumed.train(resume_from_checkpoint=True)
    assert latest_checkpoint(output) == output / "checkpoint-10"


def test_checkpoint_leftovers_of_a_kill_are_swept(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**RUN)
    output = Path(trainer.args.output_dir)
    for name in (".checkpoint-5.writing", ".checkpoint-3.deleting"):
        (output / name).mkdir(parents=True)
        (output / name / "model.safetensors").write_bytes(b"half")
    assert latest_checkpoint(output) is None
    trainer.train(resume_from_checkpoint="auto")
    names = sorted(path.name for path in output.iterdir())
    assert names == ["checkpoint-10", "checkpoint-5", "metrics.jsonl"]


def test_checkpoint_new_run_does_not_mix_with_an_old_one(make_trainer: MakeTrainer) -> None:
    make_trainer(**RUN).train()
    with pytest.raises(ConfigError, match="holds checkpoint-10 of an earlier run"):
        make_trainer(**RUN).train()
    anew = make_trainer(**{**RUN, "max_steps": 3}, overwrite_output_dir=True)
    anew.train()
    assert sorted(path.name for path in Path(anew.args.output_dir).iterdir()) == [
        "checkpoint-3",
        "metrics.jsonl",
    ]


def test_checkpoint_that_is_not_there_is_an_error(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        make_trainer(**RUN).train(resume_from_checkpoint=True)
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        make_trainer(**RUN).train(resume_from_checkpoint=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no trainer_state\.json in it"):
        make_trainer(**RUN).train(resume_from_checkpoint=tmp_path)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.safetensors", "scheduler.json", "rng_state.json", "data_state.json"],
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_checkpoint_damage_names_the_file(make_trainer: MakeTrainer, name: str, damage: str) -> None:
    trainer = make_trainer(**RUN)
    trainer.train()
    path = Path(trainer.args.output_dir, "checkpoint-10", name)
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError) as caught:
        make_trainer(**RUN).train(resume_from_checkpoint=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checkpoint_of_another_run_is_an_error(make_trainer: MakeTrainer) -> None:
    make_trainer(**RUN).train()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: does not fit .* is float32 .* bfloat16"):
        make_trainer(tiny_model(dtype="bfloat16"), **RUN).train(resume_from_checkpoint=True)
    with pytest.raises(CheckpointError, match="data position: the checkpoint has seq_len 9, this run has 7"):
        make_trainer(**RUN, train_dataset=batches(seq_len=7)).train(resume_from_checkpoint=True)
    model = tiny_model()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors: does not fit"):
        make_trainer(model, **RUN, optimizers=(optimizer, get_scheduler("constant", optimizer))).train(True)


def test_checkpoint_state_file_round_trip(tmp_path: Path) -> None:
    state = {
        "numbers": [1, 2.5, None, True, "text"],
        7: {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 3), np.int64)},
        "scalar": np.array(0.1, np.float32),
    }
    path = tmp_path / "state.safetensors"
    save_state(state, path)
    loaded = load_state(path)
    assert loaded["numbers"] == state["numbers"]
    np.testing.assert_array_equal(loaded[7]["a"].numpy(), state[7]["a"])  # type: ignore[index]
    assert loaded[7]["none"].shape == (0, 3)
    assert loaded["scalar"].shape == ()
    with pytest.raises(TypeError, match=r"state: a\.b is a object"):
        save_state({"a": {"b": object()}}, path)
    assert load_state(path)["numbers"] == state["numbers"]  # the earlier file is intact
