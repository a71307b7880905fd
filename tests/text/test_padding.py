"""Padding of rows that are tokens already, against transformers'."""

from typing import Any

import numpy as np
import pytest
from tokenizer_files import AWKWARD, KINDS, stock, write

from pymodel.errors import ConfigError, DataError
from pymodel.text import Tokenizer


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    folder = write(tmp_path_factory.mktemp(request.param), request.param)
    return Tokenizer.from_pretrained(folder), stock(folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "max_length", "max_length": 150},
        {"padding": "max_length", "max_length": 3},
        {"pad_to_multiple_of": 16},
        {"padding_side": "left", "pad_to_multiple_of": 5},
        {"padding": False},
        {"return_attention_mask": True},
    ],
)
def test_padding_batches_and_single_rows(both: tuple[Tokenizer, Any], options: dict[str, Any]) -> None:
    ours, theirs = both
    rows = [
        dict(ours(text, return_special_tokens_mask=True, return_token_type_ids=True)) for text in AWKWARD[:8]
    ]
    only_ids = [{"input_ids": row["input_ids"], "score": number} for number, row in enumerate(rows)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for examples in (rows, only_ids, columns, rows[0], {"input_ids": rows[4]["input_ids"]}):
        expected = theirs.pad(_copy(examples), **options)
        assert dict(ours.pad(_copy(examples), **options)) == dict(expected)


def test_padding_arrays(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    rows = [{"input_ids": np.array(ours.encode(text))} for text in AWKWARD[:6]]
    padded = ours.pad([dict(row) for row in rows])
    for name, column in theirs.pad([dict(row) for row in rows]).items():
        np.testing.assert_array_equal(padded[name], column)
    lists = [{"input_ids": row["input_ids"].tolist()} for row in rows]
    np.testing.assert_array_equal(
        ours.pad(lists, return_tensors="pm")["input_ids"].numpy(), padded["input_ids"]
    )
    tensors = ours(AWKWARD[:6], padding=True, return_tensors="pm")
    np.testing.assert_array_equal(ours.pad(tensors)["input_ids"], padded["input_ids"])
    again = ours.pad(ours(AWKWARD[:6]), return_tensors="np")
    np.testing.assert_array_equal(again["input_ids"], padded["input_ids"])


def test_padding_without_a_mask(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    assert list(ours.pad({"input_ids": [[3], [3, 4]]}, return_attention_mask=False)) == ["input_ids"]
    # Stock keeps a mask that is there, unpadded.
    assert list(ours.pad(ours("fox", return_token_type_ids=False), return_attention_mask=False)) == [
        "input_ids"
    ]


def test_padding_nothing(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    assert ours.pad({"input_ids": []})["input_ids"] == []
    assert ours.pad({"input_ids": [[], [3]]})["attention_mask"] == [[0], [1]]


def test_padding_bad_input_is_an_error(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    for examples, message in (
        ([], "expected a column input_ids, got none"),
        ({"labels": [1]}, "expected a column input_ids, got labels"),
        ([[1, 2]], "expected a mapping of columns or a list of them, got list"),
        ([{"input_ids": [1]}, {"ids": [1]}], "every example to have input_ids; example 1 has ids"),
        ({"input_ids": [[1], [2]], "labels": [1]}, r"expected 2 rows in every column, got {'labels': 1}"),
    ):
        with pytest.raises(DataError, match=message):
            ours.pad(examples)
    with pytest.raises(DataError, match="labels: cannot become an array"):
        ours.pad({"input_ids": [[1], [2]], "labels": [[1], [2, 3]]}, return_tensors="np")
    with pytest.raises(ConfigError, match="padding='max_length': this tokenizer has no model_max_length"):
        ours.pad({"input_ids": [[1]]}, padding="max_length")


def _copy(examples: Any) -> Any:
    # Stock fills the caller's own dicts.
    return dict(examples) if isinstance(examples, dict) else [dict(example) for example in examples]
