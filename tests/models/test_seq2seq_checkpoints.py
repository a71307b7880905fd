"""Checkpoints of encoder-decoders: what transformers wrote is read, and what we write it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from seq2seq_models import CASES, FIRST, batch, in_torch, saved_model, tiny, trained_parameters, trio
from tiny_training import one_thread  # noqa: F401

import pymodel as pm
from pymodel.errors import CheckpointError
from pymodel.models import AutoConfig, AutoModel, AutoModelForSeq2SeqLM


@pytest.mark.parametrize("name", CASES)
def test_seq2seq_saved_by_us_is_loaded_by_transformers(tmp_path: Path, name: str):
    theirs, _, ours = trio(tmp_path / "theirs", name)
    ours.save_pretrained(tmp_path / "ours", max_shard_size=20_000)
    again = type(theirs).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    arrays = in_torch(batch())
    with torch.no_grad():
        np.testing.assert_array_equal(again(**arrays).logits.numpy(), theirs(**arrays).logits.numpy())
    assert again.config.to_dict().keys() == theirs.config.to_dict().keys()


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_bare_model_and_language_model_read_each_others_checkpoints(tmp_path: Path, name: str):
    theirs, _, ours = trio(tmp_path / "head", name)
    bare = AutoModel.from_pretrained(tmp_path / "head")
    ids = batch()["input_ids"]
    arrays = {"input_ids": ids, "decoder_input_ids": ids[:, :7]}
    states = bare(**arrays).last_hidden_state
    head = ours(**arrays, output_hidden_states=True)
    np.testing.assert_array_equal(states.numpy(), head.decoder_hidden_states[-1].numpy())
    bare.save_pretrained(tmp_path / "bare")
    if getattr(theirs, "final_logits_bias", None) is not None:
        with pytest.warns(UserWarning, match="holds no final_logits_bias"):
            again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "bare")
        ours.final_logits_bias.zero_()
    else:
        again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "bare")
    np.testing.assert_array_equal(again(**arrays).logits.numpy(), ours(**arrays).logits.numpy())


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_names_and_initial_weights_are_those_of_transformers(tmp_path: Path, name: str):
    case = CASES[name]
    torch.manual_seed(0)
    pm.manual_seed(0)
    theirs = case.model(case.config(**case.options))
    ours = tiny(name)
    wanted = {n: tuple(p.shape) for n, p in trained_parameters(theirs).items()}
    assert {n: p.shape for n, p in ours.named_parameters()} == wanted
    for parameter_name, parameter in trained_parameters(theirs).items():
        values, expected = dict(ours.named_parameters())[parameter_name].numpy(), parameter.detach().numpy()
        chance = 5 * expected.std() * values.size**-0.5  # five deviations of a mean
        assert abs(values.mean() - expected.mean()) <= 1.5 * chance, parameter_name
        assert abs(values.std() - expected.std()) <= chance, parameter_name


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_reads_a_shared_embedding_under_any_of_its_names(tmp_path: Path, name: str):
    saved_model(tmp_path, name)
    expected = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    (shared,) = set(expected.tied_weights.values())
    embedding = tensors.pop(shared)
    for tied in expected.tied_weights:
        save_file({**tensors, tied: embedding}, path, {"format": "pt"})
        ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
        for found, wanted in zip(ours.parameters(), expected.parameters(), strict=True):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"missing: {shared}"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


# The keys of published checkpoints' config.json that bear on what a family accepts.
PUBLISHED: dict[str, dict[str, Any]] = {
    "facebook/bart-large-cnn": {
        "model_type": "bart", "_num_labels": 3, "activation_function": "gelu", "add_bias_logits": False,
        "add_final_layer_norm": False, "classif_dropout": 0.0, "classifier_dropout": 0.0, "d_model": 1024,
        "early_stopping": True, "encoder_layers": 12, "force_bos_token_to_be_generated": True,
        "forced_bos_token_id": 0, "forced_eos_token_id": 2, "gradient_checkpointing": False,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "init_std": 0.02,
        "is_encoder_decoder": True, "length_penalty": 2.0, "max_length": 142, "min_length": 56,
        "no_repeat_ngram_size": 3, "normalize_before": False, "num_beams": 4, "num_hidden_layers": 12,
        "output_past": True, "prefix": " ", "scale_embedding": False, "task_specific_params": {},
        "torch_dtype": "float32", "use_cache": True, "vocab_size": 50264,
    },
    "Helsinki-NLP/opus-mt-en-de": {
        "model_type": "marian", "activation_function": "swish", "add_bias_logits": False,
        "add_final_layer_norm": False, "bad_words_ids": [[58100]], "bos_token_id": 0, "d_model": 512,
        "decoder_attention_heads": 8, "decoder_start_token_id": 58100, "decoder_vocab_size": 58101,
        "encoder_attention_heads": 8, "extra_pos_embeddings": 58101, "max_position_embeddings": 512,
        "normalize_before": False, "normalize_embedding": False, "num_hidden_layers": 6,
        "pad_token_id": 58100, "scale_embedding": True, "share_encoder_decoder_embeddings": True,
        "static_position_embeddings": True, "vocab_size": 58101,
    },
    "google/flan-t5-small": {
        "model_type": "t5", "d_ff": 1024, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0,
        "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06,
        "n_positions": 512, "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8,
        "output_past": True, "pad_token_id": 0, "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "vocab_size": 32128,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_seq2seq_configurations_of_published_checkpoints_are_read(tmp_path: Path, name: str):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    config = AutoConfig.from_pretrained(tmp_path)
    kept = config.to_dict()
    for key, value in PUBLISHED[name].items():
        if key not in config.aliases and key != "id2label":
            assert kept[key] == value, key
