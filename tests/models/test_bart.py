"""What is BART's own: classification by the last end token, decoding of the source itself, its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from reference import Draws
from seq2seq_models import CASES, in_float64, in_torch, reference_model, saved_model, trio

from pymodel.models import (
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    BartForSequenceClassification,
)

END, PADDING = 2, 1


def classifiers(folder: Path, **options: Any) -> tuple[Any, Any, Any]:
    """A classifier of transformers with random weights, the same in float64, and ours."""
    torch.manual_seed(0)
    config = transformers.BartConfig(**{**CASES["bart"].options, **options})
    theirs = transformers.BartForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            noise = torch.randn_like(parameter) * 0.2
            parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    theirs.save_pretrained(folder)
    return theirs, in_float64(theirs), AutoModelForSequenceClassification.from_pretrained(folder)


def texts(seed: int) -> dict[str, np.ndarray]:
    """Two texts of unequal length, end token last."""
    ids = np.random.default_rng(seed).integers(3, 61, (2, 9))
    ids[0, 8] = ids[1, 4] = END
    ids[1, 5:] = PADDING
    return {"input_ids": ids, "attention_mask": (ids != PADDING).astype(np.int64)}


LABELS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "classes": ({"num_labels": 3}, np.array([2, 0])),
    "a number": ({"num_labels": 1}, np.array([0.5, -1.0], dtype=np.float32)),
    "several": ({"num_labels": 4}, np.array([[1, 0, 0, 1], [0, 1, 0, 0]], dtype=np.float32)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_bart_classifies_as_transformers(tmp_path: Path, kind: str):
    options, labels = LABELS[kind]
    theirs, exact, ours = classifiers(tmp_path, **options)
    draws = Draws()
    for seed in range(9):
        arrays: dict[str, Any] = {**texts(seed), "labels": labels}
        outputs = []
        for model in (ours, theirs, exact):
            given = arrays if model is ours else in_torch(arrays)
            if model is exact and labels.dtype == np.float32:
                given["labels"] = given["labels"].double()
            model.zero_grad()
            outputs.append(model(**given))
            outputs[-1].loss.backward()
        draws.add("logits", *(output.logits for output in outputs))
        draws.add("loss", *(output.loss for output in outputs))
        same, truth = dict(theirs.named_parameters()), dict(exact.named_parameters())
        assert {name for name, _ in ours.named_parameters()} == set(same)
        for name, parameter in ours.named_parameters():
            if not name.endswith("k_proj.bias"):
                draws.add(name, parameter.grad, same[name].grad, truth[name].grad)
    draws.check()


def test_bart_classifier_is_loaded_by_transformers_and_takes_language_models(tmp_path: Path):
    model = BartForSequenceClassification(BartConfig(**{**CASES["bart"].options, "num_labels": 2})).eval()
    model.save_pretrained(tmp_path / "ours")
    theirs = transformers.BartForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    arrays = texts(0)
    with torch.no_grad():
        expected = theirs(**in_torch(arrays)).logits.numpy()
    np.testing.assert_allclose(model(**arrays).logits.numpy(), expected, atol=1e-5)
    saved_model(tmp_path / "language", "bart")
    with pytest.warns(UserWarning, match="holds no classification_head"):
        grafted = BartForSequenceClassification.from_pretrained(tmp_path / "language")
    assert grafted(**arrays).logits.shape == (2, 3)  # transformers' number of labels for BART
    with pytest.raises(ValueError, match=r"row 1 holds no end token \(2\)"):
        model([[5, 2], [5, 6]])


def test_bart_without_a_target_writes_its_source(tmp_path: Path):
    theirs, _, ours = trio(tmp_path, "bart")
    ids = texts(0)["input_ids"]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(ours(ids).logits.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_bart_ends_where_its_checkpoint_forces_it_to(tmp_path: Path, beams: int):
    theirs = reference_model("bart", forced_eos_token_id=END)
    theirs.save_pretrained(tmp_path)
    ours = BartForConditionalGeneration.from_pretrained(tmp_path)
    ids = texts(0)["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 7, "min_new_tokens": 6, "num_beams": beams}
    expected = theirs.generate(
        torch.from_numpy(ids), attention_mask=torch.ones(2, 9, dtype=torch.long), **options
    )
    found = ours.generate(ids, **options)
    assert (found[:, -1] == END).all()
    np.testing.assert_array_equal(found, expected.numpy())
