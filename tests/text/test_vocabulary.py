"""Tokens, ids and special tokens against transformers'."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizer_files import AWKWARD, KINDS, assert_same, stock, write

from pymodel.errors import ConfigError, DataError
from pymodel.text import Tokenizer

ROLES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Tokenizer, Any]:
    folder = write(tmp_path, request.param)
    return Tokenizer.from_pretrained(folder), stock(folder)


def test_vocabulary_tokens_and_ids(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    for role in ROLES:
        assert getattr(ours, role) == getattr(theirs, role)
        assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_id")
    ids = theirs(" ".join(AWKWARD))["input_ids"]
    assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    assert ours.convert_ids_to_tokens(
        np.array(ids), skip_special_tokens=True
    ) == theirs.convert_ids_to_tokens(ids, skip_special_tokens=True)
    tokens = [*theirs.convert_ids_to_tokens(ids), "no such token"]
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_string(tokens[:-1]) == theirs.convert_tokens_to_string(tokens[:-1])
    assert (
        ours.convert_ids_to_tokens(5)
        == ours.convert_ids_to_tokens(np.int64(5))
        == theirs.convert_ids_to_tokens(5)
    )
    assert ours.convert_ids_to_tokens([10**6, -1, 10**12]) == [None] * 3
    assert ours.num_special_tokens_to_add() == theirs.num_special_tokens_to_add()
    assert ours.num_special_tokens_to_add(pair=True) == theirs.num_special_tokens_to_add(pair=True)


def test_vocabulary_decodes(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    batch = theirs(AWKWARD, padding=True, return_tensors="np")["input_ids"]
    for skip in (False, True):
        for clean in (None, False, True):
            options: dict[str, Any] = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
            assert ours.batch_decode(batch, **options) == theirs.batch_decode(batch, **options)
            assert ours.decode(batch[4], **options) == theirs.decode(batch[4], **options)
    assert ours.decode(7) == ours.decode(np.int64(7)) == theirs.decode(7)
    with pytest.raises(DataError, match="expected token ids of 0 or more, got -100"):
        ours.decode([3, -100])


def test_vocabulary_grows(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    texts = [*AWKWARD, "a brown fox<new> <tool>  <pad2> x_y <late>b"]
    strict = tokenizers.AddedToken("<tool>", rstrip=True, special=True)
    for add in (
        lambda tokenizer: tokenizer.add_tokens(["brown fox", "x_y"]),
        lambda tokenizer: tokenizer.add_tokens("brown fox"),
        lambda tokenizer: tokenizer.add_tokens(strict, special_tokens=True),
        lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "<pad2>"}),
        lambda tokenizer: tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]}),
    ):
        before = ours.fingerprint
        added = add(ours)
        assert added == add(theirs)
        assert (ours.fingerprint == before) == (added == 0)
        assert len(ours) == ours.vocab_size == len(theirs)
        assert_same(ours(texts, padding=True), theirs(texts, padding=True))
    assert ours.additional_special_tokens == ["<new>"]
    ours.add_special_tokens(
        {"additional_special_tokens": ["<late>"]}, replace_additional_special_tokens=False
    )
    assert ours.additional_special_tokens == ["<new>", "<late>"]
    for ids in ours(texts)["input_ids"]:
        text = theirs.decode(ids, skip_special_tokens=True).replace("<late>", "")
        assert ours.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_vocabulary_grown_is_saved(both: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, _ = both
    ours.add_special_tokens({"pad_token": "<pad2>", "additional_special_tokens": ["<new>"]})
    ours.add_tokens("brown fox")
    ours.padding_side, ours.model_max_length = "left", 77
    ours.save_pretrained(tmp_path / "grown")
    texts = [*AWKWARD, "brown fox <new><pad2>"]
    options: dict[str, Any] = {"padding": True, "truncation": True}
    for other in (stock(tmp_path / "grown"), Tokenizer.from_pretrained(tmp_path / "grown")):
        assert_same(ours(texts, **options), other(texts, **options))
        assert (other.pad_token, other.padding_side, other.model_max_length) == ("<pad2>", "left", 77)
        assert "<new>" in other.all_special_tokens


def test_vocabulary_roles_are_set(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    for tokenizer in both:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
        tokenizer.mask_token_id = 7
        tokenizer.unk_token = None
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert (ours.pad_token_id, ours.mask_token_id, ours.unk_token_id) == (theirs.pad_token_id, 7, None)
    with pytest.raises(
        ConfigError, match=r"pad_token: expected a token of the vocabulary, got '<nope>'; add"
    ):
        ours.pad_token = "<nope>"
    with pytest.raises(ConfigError, match="pad_token_id: expected an id below"):
        ours.pad_token_id = 10**6
    with pytest.raises(ConfigError, match="padding_side must be one of 'right', 'left'; got 'up'"):
        ours.padding_side = "up"
    mistakes: list[Any] = [{"pad": "a"}, {"pad_token": ["a"]}, {"additional_special_tokens": "a"}]
    for wrong in mistakes:
        with pytest.raises(
            ConfigError, match="special_tokens_dict: expected one token for each of bos_token"
        ):
            ours.add_special_tokens(wrong)
    with pytest.raises(DataError, match="new_tokens: expected texts or AddedTokens"):
        ours.add_tokens([3])  # type: ignore[list-item]


def test_vocabulary_with_holes() -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 7}, unk_token="a"))
    tokenizer = Tokenizer(words)
    assert len(tokenizer) == tokenizer.vocab_size == 8
    assert len(tokenizer.get_vocab()) == 2
    assert bool(Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({}, unk_token="a"))))
