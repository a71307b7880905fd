"""What a tokenizer's call returns: columns for the model, and the way back from tokens to text."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from pymodel.errors import ConfigError, DataError
from pymodel.text.options import check_tensor_type

_ONE_NUMBER_A_ROW = ("length", "overflow_to_sample_mapping")


class CharSpan(NamedTuple):
    """Characters `start` to `end`, the end excluded."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` to `end`, the end excluded."""

    start: int
    end: int


class BatchEncoding(UserDict[str, Any]):
    """A dict of columns such as `input_ids`, which are attributes too; `model(**batch)` takes it as it is.

    The methods say what belongs to which token. Where they take a row and an index, the row may be
    left out, as in `word_ids()`, `char_to_token(7)`; it is then the first one.

    Args:
        data: the columns: a list of rows each, or one row when a single text was given.
        encodings: the `tokenizers` library's own account of each row; None after `pad`, which has none.
        tensor_type: "np" or "pm" turns the columns into arrays.

    Raises: DataError when rows of unequal length are to become an array.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encodings: Sequence[tokenizers.Encoding] | None = None,
        tensor_type: str | None = None,
    ) -> None:
        super().__init__(data)
        self._encodings = None if encodings is None else list(encodings)
        self.convert_to_tensors(tensor_type)

    def __getitem__(self, key: Any) -> Any:
        """A column by its name, a row's `tokenizers.Encoding` by its number."""
        return self.data[key] if isinstance(key, str) else self._rows()[key]

    def __getattr__(self, name: str) -> Any:
        # Only for names that are no attribute; while unpickling there is no `data` yet.
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(f"BatchEncoding has no attribute or column {name!r}") from None

    def convert_to_tensors(self, tensor_type: str | None) -> BatchEncoding:
        """Turns all columns into arrays of int64, in place: "np" NumPy's, "pm" pymodel's, None leaves lists.

        A single row becomes a batch of one.
        """
        check_tensor_type(tensor_type)
        if tensor_type is not None:
            columns = {name: _as_array(name, column) for name, column in self.data.items()}
            self.data = columns if tensor_type == "np" else _as_tensors(columns)
        return self

    def to(self, device: str) -> BatchEncoding:
        """Moves columns that are tensors to a device, in place."""
        if any(isinstance(column, (list, int, np.ndarray)) for column in self.data.values()):
            raise ConfigError(
                f"to({device!r}): expected columns of tensors; call the tokenizer with return_tensors='pm'"
            )
        self.data = {name: column.to(device) for name, column in self.data.items()}
        return self

    @property
    def encodings(self) -> list[tokenizers.Encoding] | None:
        """The library's own account of each row."""
        return self._encodings

    @property
    def is_fast(self) -> bool:
        """Whether the methods below work: they need the encodings."""
        return self._encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """Texts in each row: 1, or 2 for pairs."""
        return self._encodings[0].n_sequences if self._encodings else None

    def tokens(self, row: int = 0) -> list[str]:
        """A row's tokens, as the vocabulary spells them."""
        return list(self._rows()[row].tokens)

    def word_ids(self, row: int = 0) -> list[int | None]:
        """The number of each token's word, None for special tokens and padding."""
        return list(self._rows()[row].word_ids)

    def sequence_ids(self, row: int = 0) -> list[int | None]:
        """0 for tokens of the first text, 1 for those of the second, None for special tokens and padding."""
        return list(self._rows()[row].sequence_ids)

    def token_to_sequence(self, row_or_token: int, token: int | None = None) -> int | None:
        """Which text of the pair a token belongs to."""
        encoding, index = self._at(row_or_token, token)
        sequence: int | None = encoding.token_to_sequence(_from_end(index, encoding))
        return sequence

    def token_to_word(self, row_or_token: int, token: int | None = None) -> int | None:
        """The number of a token's word in its text."""
        encoding, index = self._at(row_or_token, token)
        word: int | None = encoding.word_ids[index]
        return word

    def token_to_chars(self, row_or_token: int, token: int | None = None) -> CharSpan | None:
        """The characters of a token in its text, None for a special token."""
        encoding, index = self._at(row_or_token, token)
        span = encoding.token_to_chars(_from_end(index, encoding))
        return None if span is None else CharSpan(*span)

    def char_to_token(self, row_or_char: int, char: int | None = None, sequence_index: int = 0) -> int | None:
        """The token that holds a character of text `sequence_index`; None for white space between tokens."""
        encoding, index = self._at(row_or_char, char)
        token: int | None = encoding.char_to_token(index, sequence_index)
        return token

    def char_to_word(self, row_or_char: int, char: int | None = None, sequence_index: int = 0) -> int | None:
        """The word that holds a character of text `sequence_index`."""
        encoding, index = self._at(row_or_char, char)
        word: int | None = encoding.char_to_word(index, sequence_index)
        return word

    def word_to_tokens(
        self, row_or_word: int, word: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens of a word of text `sequence_index`."""
        encoding, index = self._at(row_or_word, word)
        span = encoding.word_to_tokens(index, sequence_index)
        return None if span is None else TokenSpan(*span)

    def word_to_chars(
        self, row_or_word: int, word: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word of text `sequence_index`."""
        encoding, index = self._at(row_or_word, word)
        span = encoding.word_to_chars(index, sequence_index)
        return None if span is None else CharSpan(*span)

    def _at(self, row_or_index: int, index: int | None) -> tuple[tokenizers.Encoding, int]:
        row, index = (0, row_or_index) if index is None else (row_or_index, index)
        return self._rows()[row], index

    def _rows(self) -> list[tokenizers.Encoding]:
        if self._encodings is None:
            raise DataError(
                "this BatchEncoding keeps no account of its tokens; ask the one that the tokenizer's call "
                "returned, before pad"
            )
        return self._encodings


def _from_end(index: int, encoding: tokenizers.Encoding) -> int:
    return index + len(encoding) if index < 0 else index


def _as_array(name: str, column: Any) -> np.ndarray:
    if name in _ONE_NUMBER_A_ROW:
        return np.asarray(column, np.int64)
    single = isinstance(column, list) and bool(column) and not isinstance(column[0], (list, np.ndarray))
    rows = [column] if single else column
    try:
        array = np.asarray(rows, np.int64)
    except (ValueError, TypeError) as problem:
        raise DataError(
            f"{name}: cannot become an array ({problem}); rows of unequal length need padding=True, "
            "and truncation=True where they may be too long"
        ) from None
    return array if array.size or array.ndim > 1 else array.reshape(0, 0)


def _as_tensors(columns: dict[str, np.ndarray]) -> dict[str, Any]:
    # Text knows nothing of tensors until somebody asks for them.
    from pymodel.tensor import tensor

    return {name: tensor(column) for name, column in columns.items()}
