"""The tokenizer's call against transformers', on tokenizers of every kind."""

import itertools
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizer_files import AWKWARD, KINDS, assert_same, stock, write

from pymodel.errors import ConfigError, DataError
from pymodel.text import Tokenizer

PAIRS = [*AWKWARD[1:], AWKWARD[0]]
ALL_COLUMNS = {
    "return_offsets_mapping": True,
    "return_special_tokens_mask": True,
    "return_token_type_ids": True,
    "return_attention_mask": True,
    "return_length": True,
}


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    folder = write(tmp_path_factory.mktemp(request.param), request.param)
    return Tokenizer.from_pretrained(folder), stock(folder)


def test_calling_one_text_or_pair(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    for text, pair in zip(AWKWARD, PAIRS, strict=True):
        assert_same(ours(text), theirs(text))
        assert_same(ours(text, **ALL_COLUMNS), theirs(text, **ALL_COLUMNS))
        assert ours.encode(text) == theirs.encode(text)
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False)
        assert ours.tokenize(text) == theirs.tokenize(text)
        if pair:  # stock drops an empty second text here, though not in a batch
            assert_same(ours(text, pair, **ALL_COLUMNS), theirs(text, pair, **ALL_COLUMNS))
            assert ours.encode(text, pair) == theirs.encode(text, pair)


@pytest.mark.parametrize("pad_side", ["right", "left"])
@pytest.mark.parametrize("cut_side", ["right", "left"])
def test_calling_truncation_and_padding_combined(
    both: tuple[Tokenizer, Any], pad_side: str, cut_side: str
) -> None:
    ours, theirs = both
    for tokenizer in both:
        tokenizer.truncation_side = cut_side
    texts = AWKWARD[:10]
    for padding, truncation, multiple, second in itertools.product(
        [True, "max_length", False], [True, "only_first", False], [None, 4], [None, PAIRS[:10]]
    ):
        options = {"padding": padding, "truncation": truncation, "max_length": 8, **ALL_COLUMNS}
        options |= {"pad_to_multiple_of": multiple, "padding_side": pad_side}
        if truncation == "only_first" and second:
            # The first text alone must be able to make room.
            second, options["max_length"] = ["the dog"] * len(texts), 16
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_same(ours(texts, second, **options), theirs(texts, second, **options))


def test_calling_only_second_and_overflow(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    question, context = "Who jumps?", "The quick brown fox jumps over the lazy dog, doesn't it? " * 5
    options = {"truncation": "only_second", "max_length": 30, "stride": 7, "return_overflowing_tokens": True}
    for padding in (True, "max_length", False):
        options |= {"padding": padding, **ALL_COLUMNS}
        for text, pair in ((question, context), ([question] * 2, [context, context[:60]])):
            assert_same(ours(text, pair, **options), theirs(text, pair, **options))
    options = {"max_length": 11, "stride": 3, "return_overflowing_tokens": True, "truncation": True}
    assert_same(ours(context, **options), theirs(context, **options))


def test_calling_words_that_are_split_already(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    words = [["The", "größer", "fox"], ["don't", "", "😀"], ["one"]]
    for text, pair in ((words[0], None), (words, None), (words[0], words[1]), (words, words[::-1])):
        options = {"is_split_into_words": True, **ALL_COLUMNS}
        assert_same(ours(text, pair, **options), theirs(text, pair, **options))
    as_tuples = [tuple(text) for text in words]
    assert dict(ours(as_tuples, is_split_into_words=True)) == dict(ours(words, is_split_into_words=True))
    assert_same(ours([], is_split_into_words=True), ours(""))


def test_calling_pairs_as_tuples_and_max_length_alone(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    samples = list(zip(AWKWARD, PAIRS, strict=True))
    assert_same(ours(samples), theirs(samples))
    assert_same(ours(AWKWARD, max_length=9), theirs(AWKWARD, max_length=9))
    assert_same(ours(AWKWARD, text_pair=None), ours(tuple(AWKWARD)))


def test_calling_with_targets(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    options = {"padding": True, "truncation": True, "max_length": 10}
    assert_same(ours(AWKWARD, text_target=PAIRS, **options), theirs(AWKWARD, text_target=PAIRS, **options))
    assert_same(ours(text_target=PAIRS, **options), theirs(text_target=PAIRS, **options))
    with pytest.raises(DataError, match="text: expected a str or a list of them, got NoneType"):
        ours(padding=True)


def test_calling_arrays(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    for text in (AWKWARD, AWKWARD[0]):
        arrays = ours(text, padding=True, return_tensors="np", **ALL_COLUMNS)
        expected = theirs(text, padding=True, return_tensors="np", **ALL_COLUMNS)
        for name, column in expected.items():
            assert arrays[name].dtype == np.int64
            np.testing.assert_array_equal(arrays[name], column)
        tensors = ours(text, padding=True, return_tensors="pm").to("cpu")
        np.testing.assert_array_equal(tensors.input_ids.numpy(), expected["input_ids"])
    assert ours([], return_tensors="np")["input_ids"].shape == (0, 0)
    assert ours("", return_tensors="np", add_special_tokens=False)["input_ids"].shape == (1, 0)
    with pytest.raises(DataError, match=r"input_ids: cannot become an array .* padding=True"):
        ours(["one", "one and two"], return_tensors="np")


def test_calling_leaves_no_trace(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    before = ours.encode_batch(AWKWARD)
    fingerprint = ours.backend_tokenizer.to_str()
    ours(AWKWARD, padding="max_length", truncation=True, max_length=7)
    with pytest.raises(ConfigError):
        ours(AWKWARD, truncation=True, max_length=5, stride=5)
    assert ours.encode_batch(AWKWARD) == before
    assert ours.backend_tokenizer.to_str() == fingerprint


def test_calling_from_several_threads(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    failures: list[Any] = []

    def call(length: int) -> None:
        for _ in range(30):
            rows = ours(AWKWARD, padding="max_length", truncation=True, max_length=length)["input_ids"]
            failures.extend(row for row in rows if len(row) != length)

    threads = [threading.Thread(target=call, args=(length,)) for length in (5, 9, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_calling_model_max_length(tmp_path: Path) -> None:
    folder = write(tmp_path, "wordpiece", model_max_length=9)
    ours, theirs = Tokenizer.from_pretrained(folder), stock(folder)
    options = {"padding": "max_length", "truncation": True}
    assert_same(ours(AWKWARD, **options), theirs(AWKWARD, **options))
    with pytest.warns(UserWarning, match=r"a row has \d+ tokens, but the model takes 9") as caught:
        ours(AWKWARD)
    assert caught[0].filename == __file__
    unlimited = Tokenizer.from_pretrained(folder, model_max_length=10**30)
    with pytest.warns(UserWarning, match="truncation=True has no length to cut to") as caught:
        assert_same(unlimited(AWKWARD, truncation=True), ours(AWKWARD, max_length=200))
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="max_length=4 does nothing with padding=True"):
        unlimited(AWKWARD, padding=True, max_length=4)
    with pytest.raises(ConfigError, match="padding='max_length': this tokenizer has no model_max_length"):
        unlimited(AWKWARD, padding="max_length")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paddding": True}, "no option 'paddding'; did you mean 'padding'"),
        ({"padding": "longer"}, "padding must be one of .*'max_length'.*; got 'longer'"),
        ({"padding": 1}, "padding must be one of"),
        ({"truncation": "both"}, "truncation must be one of"),
        ({"padding_side": "middle"}, "padding_side must be one of"),
        ({"return_tensors": "pt"}, "return_tensors must be 'np'"),
        ({"max_length": 0}, "max_length must be a whole number of 1 or more, got 0"),
        ({"max_length": 2.0}, "max_length must be a whole number"),
        ({"stride": -1}, "stride must be"),
        ({"truncation": True, "max_length": 1}, "max_length=1: the 2 special tokens of each row do not fit"),
        ({"truncation": True, "max_length": 6, "stride": 4}, "stride=4: expected less than 4"),
        (
            {"truncation": True, "padding": True, "max_length": 9, "pad_to_multiple_of": 4},
            "rows are cut to 9, which is no multiple",
        ),
    ],
)
def test_calling_bad_option_is_an_error(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, "wordpiece"))
    with pytest.raises(ConfigError, match=message):
        tokenizer(["some text", "other"], **options)


def test_calling_bad_text_is_an_error(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, "wordpiece"))
    for text, pair, options, message in (
        (7, None, {}, "text: expected a str or a list of them, got int"),
        (["a", 7], None, {}, "text 1: expected a str, got int"),
        (["a", b"b"], None, {}, "text 1: expected a str, got bytes"),
        ("a\udc80", None, {}, "lone surrogate at character 1"),
        (["a", "b"], ["c"], {}, "text_pair: expected a list of 2 like text, got 1"),
        (["a", "b"], "c", {}, "text_pair: expected a list of 2 like text, got str"),
        ([["a"], "b"], None, {"is_split_into_words": True}, "text 1: expected a list of words"),
        (["a", 3], None, {"is_split_into_words": True}, "expected a str, got int"),
        ("a b c", None, {"truncation": "only_second", "max_length": 4}, "Second sequence not provided"),
    ):
        with pytest.raises(DataError, match=message):
            tokenizer(text, pair, **options)
    tokenizer.pad_token = None
    with pytest.raises(ConfigError, match=r"no padding token; set one.*tokenizer.pad_token = "):
        tokenizer(["a"], padding=True)
