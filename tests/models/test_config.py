"""Configurations: Hugging Face's keys, strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from pymodel.errors import CheckpointError, ConfigError
from pymodel.models import GPT2Config

# config.json of the model that OpenAI published, as it lies on the Hub.
PUBLISHED = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}


def test_config_defaults_are_those_of_transformers():
    ours, theirs = GPT2Config().to_dict(), transformers.GPT2Config().to_dict()
    assert {key: theirs[key] for key in ours} == ours


def test_config_keeps_what_transformers_wrote(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    config = GPT2Config.from_pretrained(tmp_path)
    assert config.n_embd == 768
    assert config.architectures == ["GPT2LMHeadModel"]
    config.save_pretrained(tmp_path / "copy")
    saved = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert {key: saved[key] for key in PUBLISHED} == PUBLISHED
    assert GPT2Config.from_dict(saved) == config


@pytest.mark.parametrize("as_difference", [True, False])
def test_config_reads_every_file_that_transformers_writes(tmp_path: Path, as_difference: bool):
    theirs = transformers.GPT2Config(vocab_size=61, n_layer=3, num_labels=5, pad_token_id=7)
    theirs.to_json_file(tmp_path / "config.json", use_diff=as_difference)
    ours = GPT2Config.from_pretrained(tmp_path)
    assert (ours.vocab_size, ours.n_layer, ours.pad_token_id) == (61, 3, 7)
    ours.save_pretrained(tmp_path)
    again = transformers.GPT2Config.from_pretrained(tmp_path)
    assert (again.vocab_size, again.n_layer, again.num_labels) == (61, 3, 5)


def test_config_takes_the_names_shared_by_all_families():
    config = GPT2Config(hidden_size=24, num_attention_heads=3, num_hidden_layers=1, max_position_embeddings=9)
    assert (config.n_embd, config.n_head, config.n_layer, config.n_positions) == (24, 3, 1, 9)
    assert (config.hidden_size, config.max_position_embeddings) == (24, 9)
    with pytest.raises(AttributeError, match="no_such"):
        config.no_such  # noqa: B018


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_heads": 3}, "unknown key 'n_heads'; did you mean 'n_head'?"),
        ({"xyz": 3}, "unknown key 'xyz'; known keys are activation_function, "),
        ({"model_type": "bert"}, "model_type must be 'gpt2', got 'bert'"),
        ({"n_embd": 25, "n_head": 3}, "n_head must divide n_embd, got n_embd 25 and n_head 3"),
        ({"n_layer": 0}, "n_layer must be at least 1, got 0"),
        ({"vocab_size": "61"}, "vocab_size must be int, got '61'"),
        ({"n_inner": 1.5}, "n_inner must be int or None, got 1.5"),
        ({"scale_attn_weights": 1}, "scale_attn_weights must be bool, got 1"),
        ({"eos_token_id": [1, "a"]}, "eos_token_id must be int or list\\[int\\] or None"),
        ({"resid_pdrop": 1.0}, "resid_pdrop must be at least 0 and below 1, got 1.0"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon must be above 0"),
        (
            {"activation_function": "mish"},
            "activation_function 'mish' is not built in; expected one of gelu_new",
        ),
        ({"add_cross_attention": True}, "add_cross_attention must be false"),
    ],
)
def test_config_error_names_file_key_and_way_out(tmp_path: Path, values, message):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=message) as caught:
        GPT2Config.from_pretrained(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    with pytest.raises(ConfigError, match=f"^GPT2Config: {message}"):
        GPT2Config(**values)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("{", "cannot be read as JSON"), ("[1]", "expected a JSON object, got list")],
)
def test_config_file_error_names_the_file(tmp_path: Path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        GPT2Config.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="missing: no such folder"):
        GPT2Config.from_pretrained(tmp_path / "missing")


def test_config_accepts_notes_of_others():
    notes = {
        "_num_labels": 1,
        "_anything": [2],
        "language": "en",
        "unsloth_fixed": True,
        "max_sequence_length": 9,
    }
    config = GPT2Config(**notes)
    assert {key: config.to_dict()[key] for key in notes} == notes
    with pytest.raises(ConfigError, match="pruned_heads must be empty"):
        GPT2Config(pruned_heads={"0": [1]})
    assert GPT2Config(pruned_heads={}).pruned_heads == {}


def test_config_of_another_family_is_named_before_its_keys():
    with pytest.raises(ConfigError, match="model_type must be 'gpt2', got 'bert'"):
        GPT2Config(hidden_dropout_prob=0.1, model_type="bert")
