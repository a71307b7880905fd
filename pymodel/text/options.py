"""The options of a tokenizer's call, with transformers' names and meanings."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from pymodel.errors import ConfigError

SIDES = ("right", "left")
TENSOR_TYPES = ("np", "pm")

_PADDING = {
    False: None,
    True: "longest",
    "longest": "longest",
    "max_length": "max_length",
    "do_not_pad": None,
}
_TRUNCATION = {
    False: None,
    True: "longest_first",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
    "do_not_truncate": None,
}


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """How texts become a model's inputs.

    Attributes:
        add_special_tokens: let the tokenizer's template add its own, such as BERT's `[CLS]`.
        padding: True or "longest" fills all rows to the longest one, "max_length" to `max_length`.
        truncation: True or "longest_first" cuts token by token from the longer text of a pair,
            "only_first" and "only_second" from that text alone. None means True when there is a
            `max_length` and no padding, else False.
        max_length: tokens of a row, special ones included; the tokenizer's `model_max_length` when None.
        stride: tokens that a row of overflow repeats from the row before it.
        is_split_into_words: a text is a list of words instead of a string.
        pad_to_multiple_of: the padded length is rounded up to a multiple of this.
        padding_side: "right" or "left"; the tokenizer's own when None.
        return_tensors: "np" for NumPy arrays, "pm" for pymodel tensors, None for lists.
        return_token_type_ids, return_attention_mask: None means as the tokenizer's `model_input_names` say.
        return_overflowing_tokens: what truncation cuts off comes as further rows, and
            `overflow_to_sample_mapping` says whose they are.
        return_special_tokens_mask, return_offsets_mapping, return_length: more columns: which tokens are
            special or padding, the characters (start, end) of each token, tokens of each row.

    Raises: ConfigError for a value that an option does not take.
    """

    add_special_tokens: bool = True
    padding: bool | str = False
    truncation: bool | str | None = None
    max_length: int | None = None
    stride: int = 0
    is_split_into_words: bool = False
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_tensors: str | None = None
    return_token_type_ids: bool | None = None
    return_attention_mask: bool | None = None
    return_overflowing_tokens: bool = False
    return_special_tokens_mask: bool = False
    return_offsets_mapping: bool = False
    return_length: bool = False

    def __post_init__(self) -> None:
        _check_choice("padding", self.padding, tuple(_PADDING))
        _check_choice("truncation", self.truncation, (None, *_TRUNCATION))
        _check_choice("padding_side", self.padding_side, (None, *SIDES))
        check_tensor_type(self.return_tensors)
        _check_count("max_length", self.max_length, 1)
        _check_count("pad_to_multiple_of", self.pad_to_multiple_of, 1)
        _check_count("stride", self.stride, 0)

    @property
    def padding_strategy(self) -> str | None:
        """None, "longest" or "max_length"."""
        return _PADDING[self.padding]

    @property
    def truncation_strategy(self) -> str | None:
        """None, "longest_first", "only_first" or "only_second"."""
        if self.truncation is None:
            return "longest_first" if self.max_length is not None and self.padding is False else None
        return _TRUNCATION[self.truncation]


def options_of(values: dict[str, Any]) -> EncodingOptions:
    """Options from keyword arguments; ConfigError for one that does not exist."""
    known = [field.name for field in dataclasses.fields(EncodingOptions)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"a tokenizer's call has no option {name!r}; {hint}")
    return EncodingOptions(**values)


def check_tensor_type(name: str | None) -> None:
    """Raises ConfigError unless `return_tensors` is None or a kind of array there is."""
    if name is not None and name not in TENSOR_TYPES:
        raise ConfigError(
            f"return_tensors must be 'np' (NumPy arrays), 'pm' (pymodel tensors) or None, got {name!r}; "
            "models here take both, other libraries take NumPy arrays"
        )


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    # By identity for booleans: 1 equals True, but is no answer to a question of yes or no.
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def _check_count(name: str, value: object, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(f"{name} must be a whole number of {least} or more, got {value!r}")
