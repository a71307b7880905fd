"""`pymodel pretrain` and `pymodel generate`, from text to text."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, TEXT, Result, command, environment, run, run_process, write_corpus

import pymodel as pm
from pymodel.models import GPT2LMHeadModel
from pymodel.train import read_metrics


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def straight(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps with a checkpoint in the middle."""
    out = tmp_path_factory.mktemp("straight") / "out"
    shown = pretrain(corpus, out).stdout
    assert "held-out loss" in shown
    assert "bits per byte" in shown
    assert "sample" in shown
    return out


def pretrain(corpus: Path, out: Path, *more: object, code: int = 0) -> Result:
    return run(
        *("pretrain", "--data", corpus, "--out", out, "--max-steps", 8, "--save-steps", 4),
        *(*SMALL, "--learning-rate", 3e-3, *more),
        code=code,
    )


def weights(folder: Path) -> dict[str, bytes]:
    state = GPT2LMHeadModel.from_pretrained(folder).state_dict()
    return {name: parameter.numpy().tobytes() for name, parameter in state.items()}


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]


def test_pretrain_leaves_a_model_folder(straight: Path) -> None:
    names = "config.json model.safetensors generation_config.json tokenizer.json metrics.jsonl loss.png"
    left = {path.name for path in straight.iterdir()}
    assert {*names.split(), "checkpoint-4", "checkpoint-8", "data"} <= left
    assert (straight / "loss.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((straight / "config.json").read_text())
    assert (config["n_layer"], config["n_embd"], config["n_positions"]) == (1, 16, 16)
    assert config["eos_token_id"] == 0
    evaluated = [line for line in read_metrics(straight / "metrics.jsonl") if "eval_loss" in line]
    assert [line["step"] for line in evaluated] == [8]
    assert evaluated[0]["eval_bits_per_byte"] > 0


def test_pretrain_after_a_kill_resumes_to_the_same_bits(straight: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(
            *("pretrain", "--data", corpus, "--out", out, "--max-steps", 8, "--save-steps", 4),
            *(*SMALL, "--learning-rate", 3e-3),
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    deadline = time.monotonic() + 60
    while not (out / "checkpoint-4").is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert (out / "checkpoint-4").is_dir()
    pretrain(corpus, out, "--resume", "auto")
    assert weights(out) == weights(straight)
    assert losses(out) == losses(straight)


def test_pretrain_ctrl_c_saves_and_says_how_to_go_on(straight: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*SMALL, "--learning-rate", "3e-3", "--max-steps", "100000", "--logging-steps", "1"]
    process = subprocess.Popen(
        command("pretrain", "--data", corpus, "--out", out, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").is_file() or (out / "metrics.jsonl").stat().st_size < 100:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in shown
    last = shown.strip().splitlines()[-1]
    (checkpoint,) = out.glob("checkpoint-*")
    step = checkpoint.name.removeprefix("checkpoint-")
    assert last == (
        f"pymodel: stopped by Ctrl-C after step {step}, saved {checkpoint}; go on with the same command and "
        "--resume auto"
    )
    again = run(
        "pretrain", "--data", corpus, "--out", out, *words, "--max-steps", int(step) + 1, "--resume", "auto"
    )
    assert "held-out loss" in again.stdout


def test_pretrain_thread_count_does_not_change_the_bits(straight: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_process(
        *("pretrain", "--data", corpus, "--out", out, "--max-steps", 8, *SMALL, "--learning-rate", 3e-3),
        OMP_NUM_THREADS="2",
    )
    assert weights(out) == weights(straight)


def test_pretrain_takes_options_from_a_file(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"data: [{corpus}]\nout: {tmp_path / 'out'}\nn_layer: 1\nn-head: 2\nn_embd: 16\nseq_len: 16\n"
        "vocab_size: 300\nmax_steps: 3\nlearning_rate: 3e-3\nheld_out: 0\noverwrite: false\n"
        "batch_size: 2\neval_steps:\n"
    )
    shown = run("pretrain", "--config", config, "--max-steps", 2).stdout
    assert "held-out" not in shown
    args = json.loads((tmp_path / "out" / "checkpoint-2" / "training_args.json").read_text())
    assert (args["max_steps"], args["learning_rate"]) == (2, 3e-3)


@pytest.mark.parametrize("first", ["float32", "bfloat16"])
def test_pretrain_goes_on_in_the_dtype_of_its_checkpoint(first: str, corpus: Path, tmp_path: Path) -> None:
    def dtypes() -> set[str]:
        state = GPT2LMHeadModel.from_pretrained(tmp_path / "out").state_dict()
        return {parameter.dtype for parameter in state.values()}

    pretrain(corpus, tmp_path / "out", "--max-steps", 4, "--dtype", first)
    assert dtypes() == {first}
    resumed = ["--max-steps", 5, "--dtype", "auto", "--resume", "auto"]
    assert first in pretrain(corpus, tmp_path / "out", *resumed).stderr
    assert dtypes() == {first}
    pretrain(corpus, tmp_path / "out", "--max-steps", 1, "--dtype", "auto", "--overwrite")
    assert dtypes() == {pm.training_dtype("cpu")}


def test_pretrain_goes_on_from_a_model(straight: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        *("pretrain", "--data", corpus, "--out", out, "--init-from", straight, "--max-steps", 1),
        *("--seq-len", 12, "--batch-size", 2, "--learning-rate", 0, "--dtype", "bfloat16"),
    )
    assert (out / "tokenizer.json").read_bytes() == (straight / "tokenizer.json").read_bytes()
    before = GPT2LMHeadModel.from_pretrained(straight, dtype="bfloat16").state_dict()
    for name, parameter in GPT2LMHeadModel.from_pretrained(out).state_dict().items():
        assert parameter.dtype == "bfloat16"
        np.testing.assert_array_equal(parameter.numpy(), before[name].numpy())  # learning rate 0
    too_long = ["--init-from", straight, "--seq-len", 17]
    shown = run("pretrain", "--data", corpus, "--out", tmp_path / "x", *too_long, code=2).stderr
    assert "--seq-len: the model in" in shown
    shown = run(
        "pretrain", "--data", corpus, "--out", tmp_path / "x", *too_long, "--n-layer", 3, code=2
    ).stderr
    assert "--n-layer: the model in" in shown


def test_generate_writes_text(straight: Path) -> None:
    words = ["generate", "--model", straight, "--max-new-tokens", 8]
    greedy = run(*words, "--prompt", "the quick", "--greedy").stdout
    assert greedy.startswith("the quick")
    assert run(*words, "--prompt", "-", "--greedy", given="the quick").stdout == greedy
    drawn = [run(*words, "--seed", 3, "--temperature", 1.5, "--top-k", 0).stdout for _ in range(2)]
    assert drawn[0] == drawn[1]
    checkpoint = run("generate", "--model", straight / "checkpoint-8", "--prompt", "a", "--max-new-tokens", 2)
    assert checkpoint.stdout.startswith("a")
    everything = [" ", *TEXT.split(), *"abcdefghijklmnopqrstuvwxyz0123456789"]
    stopped = run(*words, "--prompt", "the quick", "--greedy", "--stop", *everything).stdout
    assert len(stopped) <= len(greedy)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "no such file or folder"),
        ("empty", "no text in 1 file"),
        ("tiny", "add .* of text"),
        ("binary", "binary|UTF-8"),
        ("vocab", "vocab_size: expected at least 257"),
        ("heads", "n_head must divide n_embd"),
        ("held-out", "fraction: expected a number between 0 and 1"),
        ("steps", "--max-steps: expected 0 or more, got -3"),
        ("unwritable", "cannot be written|Permission denied|Not a directory|File exists"),
        ("again", "holds checkpoint-8 of an earlier run"),
        ("resume", "no such folder"),
        ("device", "device 'cuda'"),
    ],
)
def test_pretrain_bad_input_is_one_line(
    straight: Path, corpus: Path, tmp_path: Path, case: str, message: str
) -> None:
    if case == "device" and os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    bad = tmp_path / "bad.txt"
    bad.write_bytes({"empty": b"", "tiny": b"a few words", "binary": bytes(range(256)) * 9}.get(case, b""))
    (tmp_path / "file").write_text("not a folder")
    data = {"missing": tmp_path / "nowhere", "empty": bad, "tiny": bad, "binary": bad}.get(case, corpus)
    out = {"unwritable": tmp_path / "file" / "out", "again": straight}.get(case, tmp_path / "out")
    options: dict[str, list[object]] = {
        "vocab": ["--vocab-size", 10],
        "heads": ["--n-head", 3],
        "held-out": ["--held-out", 1.5],
        "steps": ["--max-steps", -3],
        "resume": ["--resume", tmp_path / "nowhere"],
        "device": ["--device", "cuda"],
    }
    shown = pretrain(data, out, *options.get(case, []), code=2).stderr
    assert re.search(message, shown), shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learnig_rate: 1", "unknown key 'learnig_rate'; did you mean 'learning_rate'?"),
        ("max_steps: [1, 2]", "max_steps must be a single value, got a list"),
        ("overwrite: 3", "overwrite must be true or false, got 3"),
        ("- a", "expected `name: value` lines, got a list"),
        ("a: [", "not YAML"),
    ],
)
def test_pretrain_bad_config_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(content)
    shown = run("pretrain", "--config", config, "--data", "x", "--out", tmp_path / "out", code=2).stderr
    assert f"{config}: " in shown
    assert message in shown
    assert "cannot be read" in run("pretrain", f"--config={tmp_path / 'no'}", code=2).stderr


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("nowhere", "no such folder"),
        ("truncated", "model.safetensors: truncated"),
        ("no-tokenizer", "no tokenizer.json in it"),
        ("unknown-key", "unknown key 'n_heads'; did you mean 'n_head'?"),
        ("long-prompt", "the model's context holds 16"),
        ("temperature", "temperature must be above 0"),
    ],
)
def test_generate_bad_input_is_one_line(straight: Path, tmp_path: Path, case: str, message: str) -> None:
    folder = tmp_path / "model"
    words: list[object] = ["--prompt", "the quick"]
    if case != "nowhere":
        folder.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((straight / name).read_bytes())
    if case == "truncated":
        os.truncate(folder / "model.safetensors", 1000)
    elif case == "no-tokenizer":
        (folder / "tokenizer.json").unlink()
    elif case == "unknown-key":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "n_heads": 2}))
    elif case == "long-prompt":
        words = ["--prompt", "zebra " * 50]
    elif case == "temperature":
        words += ["--temperature", 0]
    assert message in run("generate", "--model", folder, *words, code=2).stderr
