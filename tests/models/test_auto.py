"""Classes found by the family that a model's files name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hugging_face import saved_model

from pymodel.errors import CheckpointError, ConfigError
from pymodel.models import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    from_pretrained,
)
from pymodel.models.auto import FAMILIES, TASKS, model_class


def test_auto_classes_load_a_folder(tmp_path: Path):
    saved_model(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is GPT2Config
    assert AutoConfig.from_pretrained(str(tmp_path), n_head=1).n_head == 1
    base, full = AutoModel.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (type(base), type(full)) == (GPT2Model, GPT2LMHeadModel)
    ids = np.arange(12).reshape(2, 6)
    np.testing.assert_array_equal(
        base(ids).last_hidden_state.numpy(), full.transformer(ids).last_hidden_state.numpy()
    )
    assert AutoModel.from_pretrained(tmp_path, dtype="bfloat16").dtype == "bfloat16"


def test_auto_classes_make_new_models():
    config = AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=2, vocab_size=11)
    assert type(AutoModelForCausalLM.from_config(config)) is GPT2LMHeadModel
    assert AutoModel.from_config(config, dtype="float16").dtype == "float16"


def test_from_pretrained_takes_the_class_that_saved_the_model(tmp_path: Path):
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11)
    GPT2Model(config).save_pretrained(tmp_path)
    assert type(from_pretrained(tmp_path)) is GPT2Model
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"architectures": ["SomethingElse"]}))
    assert type(from_pretrained(tmp_path)) is GPT2LMHeadModel


def test_auto_classes_name_what_there_is(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt3"}')
    with pytest.raises(
        ConfigError, match=r"config\.json: model_type 'gpt3' is not built in; .*did you mean 'gpt2'\?"
    ):
        AutoModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="model_type None is not built in"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ["gpt2"]}')
    with pytest.raises(ConfigError, match=r"model_type \['gpt2'\] is not built in"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(
        ConfigError, match="'gpt2' has no model for token classification; families that have one"
    ):
        AutoModelForTokenClassification.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.json: unknown key 'n_heads'; did you mean 'n_head'\?"):
        AutoConfig.from_pretrained(tmp_path, n_heads=3)
    with pytest.raises(CheckpointError, match="no such folder"):
        AutoModel.from_pretrained(tmp_path / "missing")


def test_every_class_of_the_table_exists_and_has_its_configuration():
    for model_type, family in FAMILIES.items():
        for task in TASKS:
            if getattr(family, task):
                kind = model_class(model_type, task)
                assert (kind.__name__, kind.config_class.model_type) == (getattr(family, task), model_type)
