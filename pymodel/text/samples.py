"""The texts of a tokenizer's call, checked and brought into the one form of a batch."""

from __future__ import annotations

from typing import Any, TypeAlias

from pymodel.errors import DataError

# One text, or the two of a pair; each a string, or a list of words where texts are split already.
Sample: TypeAlias = "tuple[str | list[str], ...]"


def samples_of(text: Any, text_pair: Any, is_split_into_words: bool) -> tuple[list[Sample], bool]:
    """The samples of a call, and whether it was given a batch of them.

    Args:
        text: a text or a list of them. Without `text_pair` a list may hold pairs as tuples.
        text_pair: what follows each text in its row, in the same form.
        is_split_into_words: texts are lists of words, otherwise strings.

    Raises: DataError for anything else, naming the text.
    """
    single = isinstance(text, str) or (is_split_into_words and not _is_batch_of_words(text))
    texts = [text] if single else text
    if not isinstance(texts, (list, tuple)):
        raise DataError(f"text: expected a str or a list of them, got {type(text).__name__}")
    if text_pair is None:
        given = [part if _is_pair(part, is_split_into_words) else (part,) for part in texts]
    else:
        seconds = [text_pair] if single else text_pair
        if not isinstance(seconds, (list, tuple)) or len(seconds) != len(texts):
            came = len(seconds) if isinstance(seconds, (list, tuple)) else type(seconds).__name__
            raise DataError(f"text_pair: expected a list of {len(texts)} like text, got {came}")
        given = list(zip(texts, seconds, strict=True))
    samples = [
        tuple(_checked(part, number, is_split_into_words) for part in parts)
        for number, parts in enumerate(given)
    ]
    return samples, not single


def _is_batch_of_words(text: Any) -> bool:
    return isinstance(text, (list, tuple)) and bool(text) and isinstance(text[0], (list, tuple))


def _is_pair(part: Any, is_split_into_words: bool) -> bool:
    # Where words are split a tuple is one text.
    return isinstance(part, tuple) and len(part) == 2 and not is_split_into_words


def _checked(text: Any, number: int, is_split_into_words: bool) -> str | list[str]:
    if not is_split_into_words:
        check_text(text, number)
        return str(text)
    if not isinstance(text, (list, tuple)):
        raise DataError(
            f"text {number}: expected a list of words, as is_split_into_words=True says, "
            f"got {type(text).__name__}"
        )
    for word in text:
        check_text(word, number)
    return list(text)


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
