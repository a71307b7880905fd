"""What encoders say to input, labels and configurations that do not fit, and to empty batches."""

from __future__ import annotations

import numpy as np
import pytest
from encoder_models import CLASSES, HEADS, small_config

import pymodel.models as our_models
from pymodel.errors import ConfigError


@pytest.mark.parametrize("model_type", HEADS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_ids": [1, 2, 3]}, ValueError, r"input_ids must have shape \(batch, sequence\), got \(3,\)"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "rows have unequal lengths"),
        ({"input_ids": [[1, 61]]}, ValueError, "between 0 and 60, got 61"),
        ({"input_ids": [[2] * 24]}, ValueError, r"texts may have 2\d tokens, got 24: .*cut them"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, ValueError, "attention_mask must have shape"),
        ({"input_ids": [[1, 2]], "position_ids": [[0, 23]]}, ValueError, "between 0 and 22, got 23"),
        ({"input_ids": [[1, 2]], "position_ids": [[0]]}, ValueError, "position_ids must have shape"),
        (
            {"input_ids": [[1, 2]], "token_type_ids": [[0, 3]]},
            ValueError,
            "token_type_ids must lie between 0",
        ),
        ({"input_ids": [[1, 2]], "labels": [[1, 5]]}, ValueError, "between 0 and 4 or be -100, got 5; num_"),
        ({"input_ids": [[1, 2]], "labels": [[1]]}, ValueError, r"labels must have shape \(1, 2\)"),
        ({"input_ids": [[1, 2]], "labels": [[1.0, 2.0]]}, TypeError, "labels must be integers, got float64"),
    ],
)
def test_encoder_bad_input_is_named(model_type: str, arguments, error, message):
    config = small_config(model_type, num_labels=CLASSES)
    model = our_models.AutoModelForTokenClassification.from_config(config)
    with pytest.raises(error, match=message):
        model(**arguments)


@pytest.mark.parametrize("model_type", HEADS)
def test_encoder_bad_labels_and_configurations_are_named(model_type: str):
    classifier = our_models.AutoModelForSequenceClassification.from_config(
        small_config(model_type, num_labels=3)
    )
    ids = [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\)"):
        classifier(ids, labels=[1])
    with pytest.raises(ValueError, match="between 0 and 2 or be -100, got 3"):
        classifier(ids, labels=[1, 3])
    with pytest.raises(ValueError, match=r"labels for multi_label_classification .* \(2, 3\) of logits"):
        classifier(ids, labels=[1.0, 0.0])
    classifier.config.foreign["problem_type"] = "clustering"
    with pytest.raises(ValueError, match="problem_type 'clustering' is unknown; expected one of regression"):
        classifier(ids, labels=[1, 2])
    with pytest.raises(ConfigError, match="num_labels must be 2 to mark an answer, got 3"):
        our_models.AutoModelForQuestionAnswering.from_config(small_config(model_type, num_labels=3))
    answers = our_models.AutoModelForQuestionAnswering.from_config(small_config(model_type))
    with pytest.raises(ValueError, match=r"start_positions must have shape \(2,\), got \(1,\)"):
        answers(ids, start_positions=[1], end_positions=[1, 1])
    with pytest.raises(TypeError, match="end_positions must be integers"):
        answers(ids, start_positions=[1, 1], end_positions=[1.0, 1.0])
    with pytest.raises(ConfigError, match="pad_token_id must lie between 0 and 60"):
        small_config(model_type).from_dict({**small_config(model_type).to_dict(), "pad_token_id": 61})


@pytest.mark.parametrize("model_type", HEADS)
def test_encoder_empty_batches(model_type: str):
    classifier = our_models.AutoModelForSequenceClassification.from_config(small_config(model_type))
    assert classifier(np.zeros((0, 4), dtype=np.int64)).logits.shape == (0, 2)
    with pytest.raises(ValueError, match="a text needs at least one token"):
        classifier(np.zeros((2, 0), dtype=np.int64))
    masked = our_models.AutoModelForMaskedLM.from_config(small_config(model_type))
    for shape in ((0, 4), (2, 0)):
        ids = np.zeros(shape, dtype=np.int64)
        assert masked(ids).logits.shape == (*shape, 61)
        assert masked(ids, labels=ids).loss.item() == 0.0
