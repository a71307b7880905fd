"""Classes of texts and tokens, as transformers' pipelines tell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from text_models import ROLES, save_text_model

from pymodel.errors import ConfigError
from pymodel.inference import EntityRecognition, TextClassification, load_classifier

TEXTS = ["the cat sat on the mat.", "paris", "a b c, a dogs and cats", "the capital of france is paris"]
TAGS = {0: "O", 1: "B-LOC", 2: "I-LOC", 3: "B-PER", 4: "I-PER"}


@pytest.mark.parametrize("model_type", ROLES)
@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 3},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 1},
        {"num_labels": 2, "problem_type": "regression"},
    ],
)
def test_text_classification_equals_transformers(tmp_path: Path, model_type: str, changes: dict[str, Any]):
    save_text_model(tmp_path, model_type, "sequence_classification", **changes)
    classify = load_classifier(tmp_path)
    assert isinstance(classify, TextClassification)
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path), top_k=None)
    for ours, theirs in zip(classify(TEXTS, batch_size=3), pipeline(TEXTS), strict=True):
        assert [score.label for score in ours] == [score["label"] for score in theirs]
        np.testing.assert_allclose([s.score for s in ours], [s["score"] for s in theirs], rtol=1e-4)
    assert classify([]) == []
    pair = classify([("the cat", "a dog")])[0]
    expected = pipeline({"text": "the cat", "text_pair": "a dog"})
    expected = expected[0] if isinstance(expected[0], list) else expected
    np.testing.assert_allclose([s.score for s in pair], [s["score"] for s in expected], rtol=1e-4)


@pytest.mark.parametrize("model_type", ROLES)
def test_entity_recognition_equals_transformers(tmp_path: Path, model_type: str):
    labels = {"id2label": TAGS, "label2id": {name: number for number, name in TAGS.items()}}
    count = 0
    for seed in range(4):
        save_text_model(tmp_path, model_type, "token_classification", seed=seed, **labels)
        find = load_classifier(tmp_path)
        assert isinstance(find, EntityRecognition)
        pipeline = transformers.pipeline(
            "token-classification", model=str(tmp_path), aggregation_strategy="simple"
        )
        for text, ours in zip(TEXTS, find(TEXTS, batch_size=3), strict=True):
            theirs = pipeline(text)
            keys = ("entity_group", "start", "end")
            assert [(e.label, e.start, e.end) for e in ours] == [tuple(e[k] for k in keys) for e in theirs]
            np.testing.assert_allclose([e.score for e in ours], [e["score"] for e in theirs], rtol=1e-4)
            assert all(e.text == text[e.start : e.end] for e in ours)
            count += len(ours)
    assert count > 10


def test_classification_bad_models_are_named(tmp_path: Path):
    save_text_model(tmp_path, "bert", "masked_lm")
    with pytest.raises(ConfigError, match=r"holds a BertForMaskedLM, which is no classifier; expected"):
        load_classifier(tmp_path)
    save_text_model(tmp_path / "texts", "bert", "sequence_classification", num_labels=3)
    texts = load_classifier(tmp_path / "texts")
    with pytest.raises(ConfigError, match="model must classify tokens, got BertForSequenceClassification"):
        EntityRecognition(texts.model, texts.tokenizer)  # type: ignore[arg-type]
    save_text_model(tmp_path / "tokens", "bert", "token_classification", num_labels=3)
    tokens = load_classifier(tmp_path / "tokens")
    with pytest.raises(ConfigError, match="model must classify texts, got BertForTokenClassification"):
        TextClassification(tokens.model, tokens.tokenizer)  # type: ignore[arg-type]
