"""Commands on a named device."""

from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, run, write_corpus
from devices import ACCELERATORS

from pymodel.models import GPT2LMHeadModel
from pymodel.train import read_metrics


def pretrain(corpus: Path, out: Path, device: str, *more: object) -> list[float]:
    """Four steps; returns their losses."""
    run(
        *(
            "pretrain",
            "--data",
            corpus,
            "--out",
            out,
            "--max-steps",
            4,
            "--save-steps",
            2,
            "--logging-steps",
            1,
        ),
        *(*SMALL, *more, "--device", device),
    )
    return [line["loss"] for line in read_metrics(out / "metrics.jsonl") if "loss" in line]


@pytest.mark.parametrize("name", ACCELERATORS)
def test_cli_trains_resumes_and_generates_on_a_device(name: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    there, here = pretrain(corpus, tmp_path / "there", name), pretrain(corpus, tmp_path / "here", "cpu")
    np.testing.assert_allclose(there, here, rtol=1e-4)
    moved = pretrain(corpus, tmp_path / "moved", name, "--resume", tmp_path / "here" / "checkpoint-2")
    np.testing.assert_allclose(moved, here[2:], rtol=1e-4)
    assert GPT2LMHeadModel.from_pretrained(tmp_path / "there").lm_head.weight.device == "cpu"
    options = ("--prompt", "the quick", "--max-new-tokens", 5, "--seed", 1)
    texts = [
        run("generate", "--model", tmp_path / "there", *options, "--device", device).stdout
        for device in (name, "cpu")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device 'gpu' is unknown; expected 'cpu', 'cuda' or 'cuda:N'"),
        ("cpu:3", "device 'cpu:3': there is only one cpu device, numbered from 0"),
        ("cuda:77", "device 'cuda:77': "),
    ],
)
def test_cli_device_that_is_not_there_is_one_line(device: str, message: str, tmp_path: Path) -> None:
    words = ("pretrain", "--data", write_corpus(tmp_path), "--out", tmp_path / "out", *SMALL)
    assert message in run(*words, "--device", device, code=2).stderr
