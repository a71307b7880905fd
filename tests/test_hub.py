"""Models by the name of a repository, fetched from a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, hub_server
from text_models import save_text_model

from pymodel.errors import CheckpointError
from pymodel.hub import resolve_folder
from pymodel.models import GPT2Config, GPT2LMHeadModel
from pymodel.text import Tokenizer

# huggingface_hub reads its environment once, when it is imported: each case has a process of its own.
SCRIPT = """
import sys
from pymodel.errors import CheckpointError
from pymodel.models import AutoConfig, AutoModelForCausalLM
try:
    {call}
except CheckpointError as problem:
    print(problem)
    sys.exit(3)
"""


def in_hub(call: str, cache: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    variables.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(call=call)],
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def repository(folder: Path) -> Path:
    """A model of two shards, and files that no model of ours needs."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=9))
    model.save_pretrained(folder, max_shard_size=1500)
    (folder / "vocab.txt").write_text("a\nb\n")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.json").write_text("{}")
    return folder


LOAD = "print(AutoModelForCausalLM.from_pretrained('org/tiny', n_positions=9).num_parameters())"


def test_a_repository_is_fetched_once_and_then_works_offline(tmp_path: Path):
    folder, cache = repository(tmp_path / "org"), tmp_path / "cache"
    expected = str(GPT2LMHeadModel.from_pretrained(folder).num_parameters())
    with hub_server("org/tiny", folder) as (endpoint, asked):
        first = in_hub(LOAD, cache, endpoint)
        assert (first.returncode, first.stdout.strip()) == (0, expected), first.stderr
        assert "onnx/model.json" not in asked
        assert "pytorch_model.bin" not in asked
        assert {"config.json", "model.safetensors.index.json", "vocab.txt"} <= set(asked)
        by_commit = in_hub(LOAD.replace("'org/tiny'", f"'org/tiny', revision='{COMMIT}'"), cache, endpoint)
        assert by_commit.returncode == 0, by_commit.stderr
    offline = in_hub(LOAD, cache, endpoint, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout.strip()) == (0, expected), offline.stderr
    local = in_hub(LOAD.replace("'org/tiny'", "'org/tiny', local_files_only=True"), cache, endpoint)
    assert local.returncode == 0, local.stderr


def test_a_tokenizer_is_fetched_without_weights(tmp_path: Path):
    folder = repository(tmp_path / "org")
    tokenizer = Tokenizer.train(["the cat sat on the mat\n"] * 9, vocab_size=280)
    tokenizer.save_pretrained(folder)
    call = "from pymodel.text import AutoTokenizer; "
    call += f"print(AutoTokenizer.from_pretrained('org/tiny', revision='{COMMIT}').encode('the mat'))"
    with hub_server("org/tiny", folder) as (endpoint, asked):
        result = in_hub(call, tmp_path / "cache", endpoint)
    assert (result.returncode, result.stdout.strip()) == (0, str(tokenizer.encode("the mat"))), result.stderr
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(asked)
    assert not any("safetensors" in name and not name.endswith(".json") for name in asked)
    offline = in_hub(call, tmp_path / "cache", endpoint, HF_HUB_OFFLINE="1")
    assert offline.stdout == result.stdout, offline.stderr


def test_a_sentence_encoder_is_fetched_with_its_pooling(tmp_path: Path):
    folder = tmp_path / "org"
    save_text_model(folder, "bert", "base")
    modules = [{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    for name in ("1_Pooling", "onnx"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text('{"pooling_mode_cls_token": true}')
    call = "from pymodel.inference import SentenceEncoder; "
    call += "print(SentenceEncoder.from_pretrained('org/tiny').pooling)"
    with hub_server("org/tiny", folder) as (endpoint, asked):
        result = in_hub(call, tmp_path / "cache", endpoint)
    assert (result.returncode, result.stdout.strip()) == (0, "cls"), result.stderr
    assert "1_Pooling/config.json" in asked
    assert "onnx/config.json" not in asked
    offline = in_hub(call, tmp_path / "cache", endpoint, HF_HUB_OFFLINE="1")
    assert offline.stdout == result.stdout, offline.stderr


def test_a_configuration_alone_fetches_nothing_else(tmp_path: Path):
    folder = repository(tmp_path / "org")
    with hub_server("org/tiny", folder) as (endpoint, asked):
        result = in_hub("print(AutoConfig.from_pretrained('org/tiny').n_embd)", tmp_path / "cache", endpoint)
    assert (result.returncode, result.stdout.strip()) == (0, "8"), result.stderr
    assert set(asked) == {"config.json"}


@pytest.mark.parametrize(
    ("call", "environment", "message"),
    [
        (
            "AutoConfig.from_pretrained('org/other')",
            {},
            "org/other: no such folder here and no such repository",
        ),
        (
            "AutoConfig.from_pretrained('org/tiny', revision='v9')",
            {},
            "org/tiny: revision 'v9': the hub has no such",
        ),
        (LOAD, {"HF_HUB_OFFLINE": "1"}, "org/tiny: no such folder here, not in the hub's cache"),
        (LOAD, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub was not asked or cannot be reached"),
    ],
)
def test_a_repository_that_cannot_be_had_is_an_error_and_nothing_is_written(
    tmp_path: Path, call: str, environment: dict[str, str], message: str
):
    cache = tmp_path / "cache"
    with hub_server("org/tiny", repository(tmp_path / "org")) as (endpoint, _):
        result = in_hub(call, cache, endpoint, **environment)
    assert result.returncode == 3, result.stderr
    assert message in result.stdout
    assert not [
        path for path in cache.rglob("*") if path.is_file() and path.suffix in (".json", ".safetensors")
    ]


@pytest.mark.parametrize(
    "name", ["./missing", "/no/such/folder", "a/b/c", "spaces in it", "", Path("org/tiny")]
)
def test_what_is_no_name_of_a_repository_is_a_missing_folder(name):
    with pytest.raises(
        CheckpointError, match="no such folder; name a model folder on this machine, or a repository"
    ):
        resolve_folder(name)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve_folder(str(tmp_path / "model"))


def test_a_missing_huggingface_hub_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install 'pymodel-lm\[hub\]'"):
        resolve_folder("org/tiny")
