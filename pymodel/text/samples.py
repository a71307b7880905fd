"""The texts of a tokenizer's call, checked and brought into the one form of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from pymodel.errors import DataError

Text: TypeAlias = "str | Sequence[str]"  # words, where texts are split into words already
Sample: TypeAlias = "Text | tuple[Text, Text]"


def samples_of(text: Any, text_pair: Any, is_split_into_words: bool) -> tuple[list[Sample], bool]:
    """The samples of a call, pairs as tuples, and whether a batch was given.

    Args:
        text: a text or a list of them. A text is a string, or a list of words when they are split
            already. Without `text_pair` a list may hold pairs as tuples.
        text_pair: what follows each text in its row, in the same form.

    Raises: DataError for anything else, naming the text.
    """
    if isinstance(text, str) or (is_split_into_words and not _is_list_of_lists(text)):
        pair = () if text_pair is None else (text_pair,)
        for number, part in enumerate((text, *pair)):
            _check(part, number, is_split_into_words)
        return [(text, *pair) if pair else text], False
    if not isinstance(text, (list, tuple)):
        raise DataError(f"text: expected a str or a list of them, got {type(text).__name__}")
    if text_pair is None:
        for number, sample in enumerate(text):
            is_pair = isinstance(sample, tuple) and len(sample) == 2 and not is_split_into_words
            for part in sample if is_pair else (sample,):
                _check(part, number, is_split_into_words)
        return list(text), True
    if not isinstance(text_pair, (list, tuple)) or len(text_pair) != len(text):
        came = len(text_pair) if isinstance(text_pair, (list, tuple)) else type(text_pair).__name__
        raise DataError(f"text_pair: expected a list of {len(text)} like text, got {came}")
    for number, both in enumerate(zip(text, text_pair, strict=True)):
        for part in both:
            _check(part, number, is_split_into_words)
    return list(zip(text, text_pair, strict=True)), True


def _is_list_of_lists(text: Any) -> bool:
    return isinstance(text, (list, tuple)) and bool(text) and isinstance(text[0], (list, tuple))


def _check(text: Any, number: int, is_split_into_words: bool) -> None:
    if not is_split_into_words:
        check_text(text, number)
        return
    if not isinstance(text, (list, tuple)):
        raise DataError(
            f"text {number}: expected a list of words, as is_split_into_words=True says, "
            f"got {type(text).__name__}"
        )
    for word in text:
        check_text(word, number)


def check_text(text: object, number: int) -> None:
    """Raises DataError unless text `number` is a str that UTF-8 can hold."""
    if not isinstance(text, str):
        raise DataError(
            f"text {number}: expected a str, got {type(text).__name__}; decode bytes as UTF-8 first"
        )
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise DataError(
            f"text {number}: expected text that UTF-8 can hold, got a lone surrogate at character "
            f"{problem.start}; the bytes it was read from were not UTF-8"
        ) from None
