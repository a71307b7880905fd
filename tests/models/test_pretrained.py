"""Model folders: what transformers writes we read, what we write transformers reads."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from hugging_face import config_of, reference_model, saved_model
from safetensors.torch import load_file, save_file

import pymodel as pm
from pymodel.errors import CheckpointError, ConfigError
from pymodel.models import GPT2Config, GPT2LMHeadModel, GPT2Model, from_pretrained
from pymodel.models.checkpoint import WeightFiles, write_safetensors
from pymodel.models.loading import NewWeightsWarning
from pymodel.models.shards import parse_size

IDS = np.arange(30).reshape(2, 15)


def small_model(**changes) -> GPT2LMHeadModel:
    values = {"vocab_size": 61, "n_positions": 23, "n_embd": 24, "n_layer": 2, "n_head": 3, **changes}
    return GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **values)).eval()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("tied", [True, False])
def test_save_pretrained_is_read_by_transformers(tmp_path: Path, tied: bool):
    pm.manual_seed(5)
    ours = small_model(tie_word_embeddings=tied)
    ours.save_pretrained(tmp_path)
    assert set(files_of(tmp_path)) == {"config.json", "model.safetensors", "generation_config.json"}
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(IDS)).logits.numpy()
    np.testing.assert_allclose(ours(IDS).logits.numpy(), expected, rtol=1e-5, atol=1e-6)
    names = set(load_file(tmp_path / "model.safetensors"))
    theirs.save_pretrained(tmp_path / "theirs")
    assert names == set(load_file(tmp_path / "theirs" / "model.safetensors"))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is transformers.GPT2LMHeadModel


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_save_pretrained_and_back_keeps_every_bit(tmp_path: Path, dtype: str):
    model = GPT2LMHeadModel(small_model().config, dtype=dtype)
    model.save_pretrained(tmp_path)
    back = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert back.dtype == dtype
    assert not back.training
    for (name, ours), theirs in zip(model.named_parameters(), back.parameters(), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes(), name
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["dtype"] == dtype
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, dtype="auto")
    assert theirs.dtype == getattr(torch, dtype)


def test_from_pretrained_converts_to_the_dtype_asked_for(tmp_path: Path):
    theirs = saved_model(tmp_path)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path, dtype="bfloat16")
    weight = theirs.transformer.wte.weight.detach().numpy().astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(ours.transformer.wte.weight.numpy(), weight)


def test_from_pretrained_reads_float64(tmp_path: Path):
    theirs = saved_model(tmp_path)
    theirs.double().save_pretrained(tmp_path)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path)
    weight = theirs.transformer.wte.weight.detach().numpy().astype(np.float32)
    np.testing.assert_array_equal(ours.state_dict()["transformer.wte.weight"].numpy(), weight)


def test_from_pretrained_leaves_the_random_numbers_as_they_were(tmp_path: Path):
    saved_model(tmp_path)
    pm.manual_seed(9)
    GPT2LMHeadModel.from_pretrained(tmp_path)
    assert pm.get_rng_state() == {"seed": 9, "offset": 0}


def test_from_pretrained_accepts_shards_and_prefers_nothing_stale(tmp_path: Path):
    theirs = reference_model(config_of("untied"))
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours = GPT2LMHeadModel.from_pretrained(tmp_path)
    for name, parameter in ours.named_parameters():
        np.testing.assert_array_equal(parameter.numpy(), theirs.state_dict()[name].numpy())
    ours.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors.index.json").exists()
    assert [path.name for path in tmp_path.glob("model*.safetensors")] == ["model.safetensors"]
    theirs.save_pretrained(tmp_path / "again", max_shard_size="10KB")
    shard = next(iter((tmp_path / "again").glob("model-*.safetensors")))
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"names {shard.name}, not in the folder"):
        GPT2LMHeadModel.from_pretrained(tmp_path / "again")


def test_save_pretrained_writes_shards_that_transformers_reads(tmp_path: Path):
    ours = small_model(tie_word_embeddings=False)
    ours.save_pretrained(tmp_path)
    ours.save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert not (tmp_path / "model.safetensors").exists()  # it would be read in the place of the shards
    largest = max(parameter.nbytes for parameter in ours.parameters())
    assert all(path.stat().st_size < max(10_000, largest) + 3000 for path in shards)
    for again in (
        transformers.GPT2LMHeadModel.from_pretrained(tmp_path).state_dict(),
        GPT2LMHeadModel.from_pretrained(tmp_path).state_dict(),
    ):
        for name, parameter in ours.named_parameters():
            np.testing.assert_array_equal(parameter.numpy(), again[name].numpy())


@pytest.mark.parametrize(
    ("size", "expected"), [(7, 7), ("12", 12), ("1.5GiB", 1610612736), ("20 mb", 20_000_000)]
)
def test_shard_sizes_are_read(size: int | str, expected: int):
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["5 parsecs", "", "-3", 0, "GB", True, "1e3"])
def test_shard_sizes_that_make_no_sense_are_refused(tmp_path: Path, size: int | str):
    with pytest.raises(ConfigError, match="max_shard_size must be"):
        small_model().save_pretrained(tmp_path / "new", max_shard_size=size)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_from_pretrained_accepts_names_of_old_checkpoints(tmp_path: Path, prefix: str):
    theirs = saved_model(tmp_path)
    tensors = {
        name.replace("transformer.", prefix): tensor.clone()
        for name, tensor in theirs.state_dict().items()
        if prefix or not name.startswith("lm_head")
    }
    mask = torch.ones(23, 23).tril().view(1, 1, 23, 23)
    for layer in range(2):
        tensors[f"{prefix}h.{layer}.attn.bias"] = mask.clone()
        tensors[f"{prefix}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors")
    for model in (GPT2LMHeadModel.from_pretrained(tmp_path).transformer, GPT2Model.from_pretrained(tmp_path)):
        for name, parameter in model.named_parameters():
            np.testing.assert_array_equal(parameter.numpy(), theirs.transformer.state_dict()[name].numpy())


def test_from_pretrained_lists_what_does_not_fit(tmp_path: Path):
    theirs = saved_model(tmp_path)
    tensors = {k: v.clone() for k, v in theirs.state_dict().items() if k != "lm_head.weight"}
    del tensors["transformer.h.1.ln_2.bias"], tensors["transformer.ln_f.weight"]
    tensors["transformer.h.2.ln_1.bias"] = torch.zeros(24)
    tensors["transformer.wpe.weight"] = torch.zeros(22, 24)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        GPT2LMHeadModel.from_pretrained(tmp_path)
    for part in (
        "missing: transformer.h.1.ln_2.bias, transformer.ln_f.weight",
        "unexpected: transformer.h.2.ln_1.bias",
        "transformer.wpe.weight (22, 24), expected (23, 24)",
        str(tmp_path),
    ):
        assert part in str(caught.value)
    save_file({"transformer.wte.weight": torch.zeros(61, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="and 7 more"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_from_pretrained_refuses_tied_weights_that_differ_and_integers(tmp_path: Path):
    theirs = saved_model(tmp_path)
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    GPT2LMHeadModel.from_pretrained(tmp_path)
    save_file(tensors | {"lm_head.weight": torch.zeros(61, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from transformer.wte.weight"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
    quantised = torch.zeros(24, dtype=torch.int8)
    save_file(tensors | {"transformer.ln_f.weight": quantised}, tmp_path / "model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"transformer\.ln_f.weight is I8; expected F64, F32, F16, BF16, use a checkpoint",
    ):
        GPT2LMHeadModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 400, -1])
def test_from_pretrained_names_a_truncated_file(tmp_path: Path, kept: int):
    saved_model(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: truncated or no safetensors file \(.*copy it again"
    ):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_from_pretrained_names_what_is_missing(tmp_path: Path):
    with pytest.raises(CheckpointError, match="nowhere: no such folder; name a model folder on this machine"):
        GPT2LMHeadModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
    small_model().config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no model.safetensors in it"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: a pickle, .* convert it once"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_from_pretrained_of_a_folder_finds_the_family(tmp_path: Path):
    small_model().save_pretrained(tmp_path)
    assert isinstance(from_pretrained(tmp_path), GPT2LMHeadModel)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "elmo"}))
    with pytest.raises(ConfigError, match=r"model_type 'elmo' is not built in; expected .*gpt2"):
        from_pretrained(tmp_path)


def test_save_pretrained_on_a_full_disk_leaves_earlier_files(tmp_path: Path):
    small_model().save_pretrained(tmp_path)
    before = files_of(tmp_path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be written .*free some space"):
            small_model(n_layer=3).save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert files_of(tmp_path) == before


def test_save_pretrained_interrupted_leaves_earlier_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small_model().save_pretrained(tmp_path)
    before = files_of(tmp_path)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pymodel.models.shards.write_safetensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_model().save_pretrained(tmp_path)
    assert files_of(tmp_path) == before


def test_write_safetensors_is_read_by_the_library(tmp_path: Path):
    tensors = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "a": np.arange(3).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 4), np.float16),
        "scalar": np.array(7, np.int64),
        "flags": np.array([True, False, True]),
    }
    with open(tmp_path / "model.safetensors", "wb") as stream:
        write_safetensors(stream, tensors, {"format": "pt", "note": "ü"})
    read = load_file(tmp_path / "model.safetensors")
    assert set(read) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name].double().numpy(), array.astype(np.float64))
    files = WeightFiles(tmp_path)
    assert files.shape("b") == (3, 2)
    np.testing.assert_array_equal(files.read("a"), tensors["a"])


def test_weights_at_odd_places_of_a_file_are_read(tmp_path: Path):
    values = np.arange(6, dtype=np.float32)
    header = {
        "flag": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [1, 25]},
        "none": {"dtype": "BF16", "shape": [0, 3], "data_offsets": [25, 25]},
    }
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + b"\1" + values.tobytes()
    (tmp_path / "model.safetensors").write_bytes(content)
    files = WeightFiles(tmp_path)
    np.testing.assert_array_equal(files.read("x"), values.reshape(2, 3))
    assert files.read("x").flags.aligned
    assert files.read("none").shape == (0, 3)
    assert files.dtype == "float32"


def test_from_pretrained_takes_dtypes_of_other_libraries(tmp_path: Path):
    small_model().save_pretrained(tmp_path)
    for dtype in (
        torch.bfloat16,
        "bfloat16",
        ml_dtypes.bfloat16,
        np.dtype(ml_dtypes.bfloat16),
        "torch.bfloat16",
    ):
        assert GPT2LMHeadModel.from_pretrained(tmp_path, dtype=dtype).dtype == "bfloat16"
        assert GPT2LMHeadModel.from_pretrained(tmp_path, torch_dtype=dtype).dtype == "bfloat16"
    assert GPT2LMHeadModel.from_pretrained(tmp_path, dtype=np.float16).dtype == "float16"
    assert GPT2LMHeadModel.from_pretrained(tmp_path, dtype="auto").dtype == "float32"
    for dtype in ("nonsense", "int32", np.int64, 3):
        with pytest.raises(ConfigError, match="dtype must be float32, float16, bfloat16 or auto, got"):
            GPT2LMHeadModel.from_pretrained(tmp_path, torch_dtype=dtype)


def test_from_pretrained_refuses_what_only_a_call_can_be_told(tmp_path: Path):
    small_model().save_pretrained(tmp_path)
    refused: list[dict[str, Any]] = [
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"return_dict": False},
    ]
    for changes in refused:
        with pytest.raises(ConfigError, match="is an argument of the call"):
            from_pretrained(tmp_path, **changes)
    model = from_pretrained(tmp_path, output_attentions=False, return_dict=True, use_cache=False)
    as_tuple = model(IDS, return_dict=False)
    np.testing.assert_array_equal(as_tuple[0].numpy(), model(IDS, return_dict=True).logits.numpy())
    assert model(IDS).get("loss", 7) == 7
    assert model(IDS).get("logits").shape == (2, 15, 61)


def test_from_pretrained_begins_tensors_of_another_shape_anew_when_told_so(tmp_path: Path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="anew with ignore_mismatched_sizes=True"):
        GPT2LMHeadModel.from_pretrained(tmp_path, n_positions=19)
    with pytest.warns(NewWeightsWarning, match="transformer.wpe.weight that fits; they have"):
        model = GPT2LMHeadModel.from_pretrained(tmp_path, n_positions=19, ignore_mismatched_sizes=True)
    assert model.transformer.wpe.weight.shape == (19, 24)
    assert 0.01 < float(model.transformer.wpe.weight.numpy().std()) < 0.03


def test_pickles_in_shards_without_an_index_are_named(tmp_path: Path):
    small_model().config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model-00001-of-00002.bin: a pickle"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
