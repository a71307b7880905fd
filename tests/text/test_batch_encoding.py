"""The way from tokens to characters and words, and back, against transformers'."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizer_files import AWKWARD, KINDS, stock, write

from pymodel.errors import ConfigError, DataError
from pymodel.text import BatchEncoding, Tokenizer

TEXTS = [text for text in AWKWARD if text.strip()]
PAIRS = TEXTS[::-1]


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = write(tmp_path_factory.mktemp(request.param), request.param)
    ours, theirs = Tokenizer.from_pretrained(folder), stock(folder)
    return ours(TEXTS, PAIRS, padding=True), theirs(TEXTS, PAIRS, padding=True)


def test_batch_encoding_of_tokens(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    for row in range(len(TEXTS)):
        length = len(ours.input_ids[row])
        for token in range(length):
            assert ours.token_to_chars(row, token) == theirs.token_to_chars(row, token)
            assert ours.token_to_chars(row, token - length) == ours.token_to_chars(row, token)
            assert ours.token_to_sequence(row, token) == theirs.token_to_sequence(row, token)
            assert ours.token_to_sequence(row, token - length) == ours.token_to_sequence(row, token)
            assert ours.token_to_word(row, token) == theirs.word_ids(row)[token]
    assert ours.token_to_chars(3) == ours.token_to_chars(0, 3)


def test_batch_encoding_of_characters_and_words(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    for row in range(len(TEXTS)):
        for sequence in (0, 1):
            for char in range(12):
                assert ours.char_to_token(row, char, sequence) == theirs.char_to_token(row, char, sequence)
                assert ours.char_to_word(row, char, sequence) == theirs.char_to_word(row, char, sequence)
            words = theirs.word_ids(row)
            sides = theirs.sequence_ids(row)
            for word in {w for w, s in zip(words, sides, strict=True) if s == sequence and w is not None}:
                span = ours.word_to_tokens(row, word, sequence)
                assert span == theirs.word_to_tokens(row, word, sequence)
                assert span.start < span.end
                assert ours.word_to_chars(row, word, sequence) == theirs.word_to_chars(row, word, sequence)


def test_batch_encoding_is_a_dict(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    assert dict(**ours) == ours.data == dict(theirs)
    assert ours.input_ids is ours["input_ids"]
    assert ours[0].ids == ours["input_ids"][0]
    assert (ours.n_sequences, ours.is_fast, len(ours.encodings)) == (2, True, len(TEXTS))
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other.data == ours.data
        assert other.tokens(1) == ours.tokens(1)
    with pytest.raises(AttributeError, match="no attribute or column 'pixels'"):
        _ = ours.pixels


def test_batch_encoding_becomes_arrays(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, "wordpiece"))
    batch = tokenizer(TEXTS, padding=True)
    with pytest.raises(ConfigError, match=r"to\('cpu'\): expected columns of tensors"):
        batch.to("cpu")
    assert batch.convert_to_tensors("np") is batch
    assert batch.input_ids.dtype == np.int64
    single = tokenizer("The fox", return_offsets_mapping=True).convert_to_tensors("np")
    assert single.input_ids.shape == (1, 4)
    assert single.offset_mapping.shape == (1, 4, 2)
    with pytest.raises(ConfigError, match="return_tensors must be 'np'"):
        batch.convert_to_tensors("tf")
    with pytest.raises(DataError, match="keeps no account of its tokens"):
        BatchEncoding({"input_ids": [1]}).word_ids()
