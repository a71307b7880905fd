"""The defaults of generation that a model's folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from letters import Letters, prompts

import pymodel as pm
from pymodel.errors import CheckpointError, ConfigError
from pymodel.generate import stream_generate
from pymodel.models import GPT2Config, GPT2LMHeadModel


def test_generation_config_gives_defaults_and_arguments_come_first(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    settings = {
        "num_beams": 3,
        "no_repeat_ngram_size": 2,
        "max_length": 14,
        "min_length": 9,
        "pad_token_id": 5,
    }
    write_generation_config(tmp_path, **settings, eos_token_id=[7, 9])
    ours = GPT2LMHeadModel.from_pretrained(tmp_path)
    reference = type(theirs).from_pretrained(tmp_path).eval()
    ids = torch.tensor(prompts([6]))
    calls: list[dict[str, Any]] = [{}, {"num_beams": 1}, {"max_length": 20}, {"max_new_tokens": 3}]
    for given in calls:
        expected = reference.generate(ids, attention_mask=torch.ones_like(ids), **given)
        np.testing.assert_array_equal(ours.generate(ids.numpy(), **given), expected.numpy(), str(given))
    options: dict[str, Any] = {"num_beams": 1, "seed": 1, "max_new_tokens": 4, "min_new_tokens": 4}
    sampled = ours.generate(ids.numpy(), do_sample=True, **options)
    assert sampled.shape == (1, 10)
    assert "".join(piece.text for piece in stream_generate(ours, Letters(), "hello", max_new_tokens=3))
    ours.generation_config.max_length = 6
    with pytest.raises(ConfigError, match="max_length 6 leaves no room behind a prompt of 6 tokens"):
        ours.generate(ids.numpy())
    ours.generation_config.num_beams = None
    assert ours.generate(ids.numpy(), max_new_tokens=3).shape == (1, 9)


def test_generation_config_gives_way_to_changes_of_the_configuration(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    write_generation_config(tmp_path, eos_token_id=3, num_beams=2)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path, eos_token_id=7)
    expected = ours.generate([[1, 2]], eos_token_id=7, num_beams=2)
    np.testing.assert_array_equal(ours.generate([[1, 2]]), expected)


def test_generate_grows_its_memory_with_the_text(theirs, tmp_path: Path):
    """A text far longer than what is set aside, within a limit that nobody could set aside."""
    config = GPT2Config(vocab_size=9, n_positions=1500, n_embd=4, n_layer=1, n_head=1)
    pm.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    options: dict[str, Any] = {"max_new_tokens": 10**12, "eos_token_id": []}
    assert model.generate([[1], [1, 2, 3]], **options).shape == (2, 3 + 1499)
    assert model.generate(
        [[1, 2]], num_beams=2, min_length=700, **{**options, "max_new_tokens": 700}
    ).shape == (1, 702)


def test_generation_config_is_written_as_it_was_read(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path / "theirs")
    write_generation_config(tmp_path / "theirs", num_beams=4, cache_implementation="static", max_length=9)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "theirs")
    model.generation_config.length_penalty = 0.5
    model.save_pretrained(tmp_path / "ours")
    before = json.loads((tmp_path / "theirs" / "generation_config.json").read_text())
    after = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert after == {**before, "length_penalty": 0.5}
    assert type(theirs).from_pretrained(tmp_path / "ours").generation_config.length_penalty == 0.5


def test_generation_config_of_an_old_folder_stands_in_config_json(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_beams": 2, "max_length": 20}))
    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(model.generate([[1, 2]]), model.generate([[1, 2]], num_beams=2))
    assert model.generate([[1, 2]], eos_token_id=[], max_new_tokens=30).shape == (1, 32)


def test_generation_config_names_what_has_no_effect(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    write_generation_config(tmp_path, typical_p=0.4, num_beam_groups=1, guidance_scale=None)
    with pytest.warns(UserWarning, match="generation_config.json: typical_p not built in"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: cannot be read as JSON"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def write_generation_config(folder: Path, **values: object) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# -- text -------------------------------------------------------------------------------------------
