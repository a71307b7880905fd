"""`pymodel convert`: what it writes is read by transformers, and by us."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from command_line import run
from hugging_face import saved_model
from safetensors import numpy as safetensors

from pymodel.models import GPT2LMHeadModel
from pymodel.models.checkpoint import WeightFiles
from pymodel.text import Tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    saved_model(source)
    Tokenizer.train(["some text"], vocab_size=260).save_pretrained(source)
    (source / "trainer_state.json").write_text("{}")
    return source


def elements(folder: Path) -> dict[str, np.ndarray]:
    files = WeightFiles(folder)
    return {name: np.array(files.stored(name)) for name in files}


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(None, np.float32), ("float32", np.float32), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)],
)
@pytest.mark.parametrize("size", ["5GB", "4KB", "1"])
def test_convert_writes_what_transformers_reads(folder, dtype, kind, size):
    out = folder.parent / "out"
    words = ["--dtype", dtype] if dtype else []
    said = run("convert", "--model", folder, "--out", out, "--max-shard-size", size, *words).stdout
    before, after = elements(folder), elements(out)
    count = len(list(out.glob("*.safetensors")))
    assert f"{len(before)} tensors" in said
    assert (f"in {count} files" if count > 1 else "in 1 file") in said
    assert count == {"5GB": 1, "1": len(before)}.get(size, count)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert after[name].dtype == kind
        np.testing.assert_array_equal(after[name], array.astype(kind))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(out, dtype=torch.float32).eval()
    ours = GPT2LMHeadModel.from_pretrained(out, dtype="float32")
    ids = np.array([[1, 2, 3]])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(ours(ids).logits.numpy(), expected, rtol=1e-4, atol=1e-5)
    if dtype:
        assert GPT2LMHeadModel.from_pretrained(out).dtype == dtype
        assert transformers.AutoConfig.from_pretrained(out).dtype == getattr(torch, dtype)
    for companion in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / companion).read_bytes() == (folder / companion).read_bytes()
    assert "copied: generation_config.json, tokenizer.json" in said
    assert not (out / "trainer_state.json").exists()


def test_convert_back_and_over_a_model_that_is_there(folder, tmp_path):
    shards, whole = tmp_path / "shards", tmp_path / "whole"
    run("convert", "--model", folder, "--out", shards, "--max-shard-size", "3KB")
    run("convert", "--model", shards, "--out", whole)
    run("convert", "--model", folder, "--out", shards)
    assert [path.name for path in shards.glob("*.safetensors*")] == ["model.safetensors"]
    for made in (shards, whole):
        assert (made / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        assert elements(made).keys() == elements(folder).keys()


def test_convert_leaves_integers_and_keys_that_it_does_not_know(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    tensors = {
        "positions": np.arange(7),
        "mask": np.ones((2, 2), bool),
        "weight": np.full((3,), 1.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    safetensors.save_file(tensors, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps({"model_type": "unheard-of", "its_key": [1, 2]}))
    run("convert", "--model", source, "--out", out, "--dtype", "float16")
    after = elements(out)
    assert {name: array.dtype.name for name, array in after.items()} == {
        "positions": "int64",
        "mask": "bool",
        "weight": "float16",
        "empty": "float16",
    }
    for name, array in tensors.items():
        np.testing.assert_array_equal(after[name], array)
    config = json.loads((out / "config.json").read_text())
    assert config == {
        "model_type": "unheard-of",
        "its_key": [1, 2],
        "dtype": "float16",
        "torch_dtype": "float16",
    }


def test_convert_bad_input_writes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    same = run("convert", "--model", folder, "--out", folder.parent / "in", code=2).stderr
    assert "is the folder that is read; name another one" in same
    (tmp_path / "link").symlink_to(folder)
    run("convert", "--model", folder, "--out", tmp_path / "link", code=2)
    size = run("convert", "--model", folder, "--out", out, "--max-shard-size", "many", code=2).stderr
    assert "max_shard_size must be bytes or a size" in size
    assert "no such folder" in run("convert", "--model", tmp_path / "nowhere", "--out", out, code=2).stderr
    assert not out.exists()
    tensors = safetensors.load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][3] = 1e6
    safetensors.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    said = run("convert", "--model", folder, "--out", out, "--dtype", "float16", code=2).stderr
    assert "transformer.ln_f.bias holds 1e+06, and float16 ends at 65504; convert to bfloat16 instead" in said
    assert not list(out.iterdir())
    run("convert", "--model", folder, "--out", out, "--dtype", "bfloat16")


def test_convert_holds_one_tensor_at_a_time(tmp_path):
    """Peak memory of a process that converts 64 tensors of 4 MB stays far below their sum."""
    source = tmp_path / "in"
    source.mkdir()
    tensors = {f"weight_{number}": np.ones((1024, 1024), np.float32) for number in range(64)}
    safetensors.save_file(tensors, source / "model.safetensors")
    (source / "config.json").write_text('{"model_type": "gpt2"}')
    del tensors
    tracemalloc.start()
    run("convert", "--model", source, "--out", tmp_path / "out", "--dtype", "bfloat16")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6
