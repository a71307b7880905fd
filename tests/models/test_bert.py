"""What is BERT's own: names of old checkpoints, its configuration, half given labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_models import random_inputs, trio
from safetensors.torch import load_file, save_file

from pymodel.errors import CheckpointError, ConfigError
from pymodel.models import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel


def test_bert_reads_the_names_of_old_checkpoints(tmp_path: Path):
    _, _, expected = trio(tmp_path, "bert", "BertForPreTraining")
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): w
        for name, w in weights.items()
    }
    assert set(old) != set(weights)
    old["bert.embeddings.position_ids"] = torch.arange(23)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    save_file(old, path)
    model = BertForPreTraining.from_pretrained(tmp_path)
    for (name, ours), theirs in zip(model.named_parameters(), expected.parameters(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), name)


def test_bert_half_a_head_is_a_damaged_file(tmp_path: Path):
    trio(tmp_path, "bert", "BertForMaskedLM")
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights["cls.predictions.transform.dense.weight"]
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"missing: cls\.predictions\.transform\.dense\.weight"):
        BertForMaskedLM.from_pretrained(tmp_path)


def test_bert_pre_training_needs_both_kinds_of_labels(tmp_path: Path):
    _, _, ours = trio(tmp_path, "bert", "BertForPreTraining")
    inputs = random_inputs(ours.config, "BertForPreTraining")
    assert ours(**inputs).keys() == ["loss", "prediction_logits", "seq_relationship_logits"]
    del inputs["next_sentence_label"]
    assert ours(**inputs).keys() == ["prediction_logits", "seq_relationship_logits"]


def test_bert_without_a_pooler_has_no_pooled_output(tmp_path: Path):
    _, _, ours = trio(tmp_path, "bert", "BertModel")
    bare = BertModel(ours.config, add_pooling_layer=False)
    assert bare([[1, 2]]).keys() == ["last_hidden_state"]
    assert not any("pooler" in name for name, _ in bare.named_parameters())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 20, "num_attention_heads": 3}, "num_attention_heads must divide hidden_size, got"),
        ({"hidden_act": "gelu_old"}, "hidden_act 'gelu_old' is not built in"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type 'relative_key' is not built in",
        ),
        ({"is_decoder": True}, "is_decoder and add_cross_attention must be false"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob must be at least 0 and below 1"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be above 0"),
        ({"type_vocab_size": 0}, "type_vocab_size must be at least 1"),
        ({"hidden_sizes": 3}, "unknown key 'hidden_sizes'; did you mean 'hidden_size'"),
    ],
)
def test_bert_configuration_errors_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        BertConfig(**values)
