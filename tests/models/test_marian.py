"""What is Marian's own: positions that only the bare model's checkpoints hold, and two vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file
from seq2seq_models import CASES, saved_model

from pymodel.errors import ConfigError
from pymodel.models import MarianConfig, MarianModel, MarianMTModel


@pytest.mark.parametrize("name", ["marian", "marian-odd-width"])
def test_marian_positions_are_those_of_transformers_and_are_not_saved(tmp_path: Path, name: str):
    theirs = saved_model(tmp_path / "theirs", name)
    ours = MarianMTModel.from_pretrained(tmp_path / "theirs")
    expected = theirs.model.encoder.embed_positions.weight.detach().numpy()
    positions = dict(ours.named_buffers())
    for side in ("encoder", "decoder"):
        table = positions[f"model.{side}.embed_positions.weight"].numpy()
        np.testing.assert_allclose(table, expected, atol=1e-6)
    ours.save_pretrained(tmp_path / "ours")
    names = load_file(tmp_path / "ours" / "model.safetensors").keys()
    assert names == load_file(tmp_path / "theirs" / "model.safetensors").keys()
    assert not any("embed_positions" in stored for stored in names)


@pytest.mark.parametrize("name", ["marian", "marian-untied"])
def test_marian_bare_model_stores_what_transformers_does(tmp_path: Path, name: str):
    theirs = saved_model(tmp_path / "theirs", name).model
    theirs.save_pretrained(tmp_path / "bare")
    MarianModel.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    found, wanted = (load_file(tmp_path / which / "model.safetensors") for which in ("ours", "bare"))
    assert found.keys() == wanted.keys()
    for stored, values in wanted.items():
        np.testing.assert_allclose(found[stored], values, atol=1e-6, err_msg=stored)
    _, report = transformers.MarianModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = MarianModel.from_pretrained(tmp_path / "bare")
    for ours, parameter in zip(
        MarianModel.from_pretrained(tmp_path / "ours").parameters(), expected.parameters(), strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), parameter.numpy())


def test_marian_reads_checkpoints_that_store_positions_and_old_keys(tmp_path: Path):
    saved_model(tmp_path, "marian")
    expected = MarianMTModel.from_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    for side in ("encoder", "decoder"):
        tensors[f"model.{side}.embed_positions.weight"] = np.ones((23, 24), dtype=np.float32)
    save_file(tensors, path, {"format": "pt"})
    old: dict[str, Any] = {
        "add_bias_logits": False,
        "normalize_before": False,
        "static_position_embeddings": True,
    }
    ours = MarianMTModel.from_pretrained(tmp_path, **old)
    for found, wanted in zip(ours.parameters(), expected.parameters(), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    assert ours.config.to_dict()["static_position_embeddings"] is True


def test_marian_checks_source_and_target_by_their_own_vocabularies():
    options = CASES["marian-two-vocabularies"].options
    model = MarianMTModel(MarianConfig(**options)).eval()
    assert model([[60]], decoder_input_ids=[[66]]).logits.shape == (1, 1, 67)
    with pytest.raises(ValueError, match="input_ids must lie between 0 and 60, got 66"):
        model([[66]], decoder_input_ids=[[1]])
    with pytest.raises(ValueError, match="decoder_input_ids must lie between 0 and 66, got 67"):
        model([[1]], decoder_input_ids=[[67]])
    with pytest.raises(ValueError, match="24 tokens are more than max_position_embeddings"):
        model([[1] * 24], decoder_input_ids=[[1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_vocab_size": 7}, "decoder_vocab_size must be vocab_size 61 with share_encoder"),
        ({"pad_token_id": 61}, "pad_token_id must be a token, 0 to 60, got 61"),
        ({"encoder_attention_heads": 5}, "encoder_attention_heads must divide d_model"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"init_std": -1.0}, "init_std must be at least 0"),
        ({"activation_function": "swoosh"}, "activation_function 'swoosh' is not built in"),
    ],
)
def test_marian_config_errors_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        MarianConfig(**{**CASES["marian"].options, **changes})
