"""Gaps filled as transformers' pipeline fills them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers
from text_models import ROLES, save_text_model

from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.inference import FillMask
from pymodel.models import AutoModel
from pymodel.text import AutoTokenizer


@pytest.mark.parametrize("model_type", ROLES)
def test_fill_mask_equals_transformers(tmp_path: Path, model_type: str):
    save_text_model(tmp_path, model_type, "masked_lm")
    pipeline = transformers.pipeline("fill-mask", model=str(tmp_path), top_k=4)
    fill, mask = FillMask.from_pretrained(tmp_path), ROLES[model_type]["mask_token"]
    for text in (f"paris is the {mask} of france", f"{mask} cat", f"the {mask} sat on {mask}."):
        expected = pipeline(text)
        expected = expected if isinstance(expected[0], list) else [expected]
        found = fill(text, top_k=4)
        assert len(found) == len(expected) == text.count(mask)
        for ours, theirs in zip(found, expected, strict=True):
            assert [f.token for f in ours] == [f["token"] for f in theirs]
            assert [f.token_str for f in ours] == [f["token_str"] for f in theirs]
            np.testing.assert_allclose([f.score for f in ours], [f["score"] for f in theirs], rtol=1e-4)
        if len(found) == 1:
            assert [f.sequence for f in found[0]] == [f["sequence"] for f in expected[0]]


def test_fill_mask_bad_arguments_are_named(tmp_path: Path):
    save_text_model(tmp_path, "bert", "masked_lm")
    fill = FillMask.from_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"expected \[MASK\] at least once, got none"):
        fill("the cat")
    with pytest.raises(DataError, match=r"got 2, of which 1 within 23 tokens"):
        fill("[MASK] cat " + "a " * 40 + "[MASK]")
    with pytest.raises(ConfigError, match="top_k must lie between 1 and 61, the vocabulary, got 0"):
        fill("[MASK]", top_k=0)
    with pytest.warns(UserWarning, match="pooler"), pytest.raises(ConfigError, match="got BertModel"):
        FillMask(AutoModel.from_pretrained(tmp_path), fill.tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.mask_token = None
    with pytest.raises(ConfigError, match="tokenizer has no mask_token"):
        FillMask(fill.model, tokenizer)


def test_fill_mask_refuses_a_checkpoint_without_the_head(tmp_path: Path):
    save_text_model(tmp_path, "bert", "base")
    with pytest.raises(CheckpointError, match=r"holds no cls\.predictions.* they have their initial values"):
        FillMask.from_pretrained(tmp_path)
