"""The classes of a classifier, as configurations have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from pymodel.errors import ConfigError
from pymodel.models import GPT2Config


def test_labels_default_to_two_that_are_not_written():
    config = GPT2Config()
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert (config.num_labels, config.label2id) == (2, {"LABEL_0": 0, "LABEL_1": 1})
    assert "id2label" not in config.to_dict()


def test_labels_go_to_transformers_and_back(tmp_path: Path):
    config = GPT2Config(id2label={0: "no", 1: "maybe", 2: "yes"})
    config.save_pretrained(tmp_path)
    theirs = transformers.GPT2Config.from_pretrained(tmp_path)
    assert (theirs.num_labels, theirs.id2label, theirs.label2id["yes"]) == (3, config.id2label, 2)
    theirs.save_pretrained(tmp_path / "again")
    assert GPT2Config.from_pretrained(tmp_path / "again").id2label == config.id2label
    assert GPT2Config.from_pretrained(tmp_path, num_labels=3).id2label[2] == "yes"


def test_another_number_of_labels_forgets_the_names(tmp_path: Path):
    GPT2Config(id2label={0: "no", 1: "maybe", 2: "yes"}).save_pretrained(tmp_path)
    config = GPT2Config.from_pretrained(tmp_path, num_labels=4)
    assert config.id2label == {i: f"LABEL_{i}" for i in range(4)}
    config.num_labels = 1
    assert config.id2label == {0: "LABEL_0"}
    assert GPT2Config(num_labels=5) != GPT2Config(num_labels=6)


def test_labels_may_come_by_name_alone():
    assert GPT2Config(label2id={"b": 1, "a": 0}).id2label == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_labels": 0}, "num_labels must be an integer of at least 1, got 0"),
        ({"num_labels": "3"}, "num_labels must be an integer of at least 1, got '3'"),
        ({"id2label": ["a"]}, r"id2label must be a JSON object, got \['a'\]"),
        ({"id2label": {"x": "a"}}, "id2label must name classes by their number"),
        (
            {"id2label": {"0": "a", "2": "b"}},
            r"id2label must number the classes from 0 without a gap, got \[0, 2\]",
        ),
        ({"label2id": 3}, "label2id must be a JSON object"),
    ],
)
def test_labels_that_make_no_sense_are_refused(tmp_path: Path, values, message):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"config.json: {message}"):
        GPT2Config.from_pretrained(tmp_path)
