"""Rows that are tokens already, brought to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pymodel.errors import DataError
from pymodel.text.batch_encoding import BatchEncoding
from pymodel.text.calling import padding_of
from pymodel.text.options import EncodingOptions

if TYPE_CHECKING:
    from pymodel.text.encoder import TextEncoder


def pad_examples(tokenizer: TextEncoder, examples: Any, options: EncodingOptions) -> BatchEncoding:
    """What `TextEncoder.pad` returns."""
    columns, single, arrays = _columns_of(examples)
    tensor_type = options.return_tensors or ("np" if arrays else None)
    ids = columns["input_ids"]
    masked = options.return_attention_mask
    if "attention_mask" in tokenizer.model_input_names if masked is None else masked:
        columns.setdefault("attention_mask", [[1] * len(row) for row in ids])
    elif masked is False:
        columns.pop("attention_mask", None)
    settings = padding_of(tokenizer, options)
    if settings is not None:
        length = settings["length"] or max(map(len, ids), default=0)
        multiple = settings["pad_to_multiple_of"] or 1
        length = -(-length // multiple) * multiple
        for name, filler in _fillers(settings).items():
            if name in columns:
                columns[name] = [_filled(row, length, filler, settings["direction"]) for row in columns[name]]
    if single and tensor_type is None:
        return BatchEncoding({name: column[0] for name, column in columns.items()})
    return BatchEncoding(columns, tensor_type=tensor_type)


def _fillers(settings: Mapping[str, Any]) -> dict[str, int]:
    return {
        "input_ids": settings["pad_id"],
        "attention_mask": 0,
        "token_type_ids": settings["pad_type_id"],
        "special_tokens_mask": 1,
    }


def _filled(row: list[Any], length: int, filler: int, side: str) -> list[Any]:
    padding = [filler] * (length - len(row))
    return row + padding if side == "right" else padding + row


def _columns_of(examples: Any) -> tuple[dict[str, list[Any]], bool, bool]:
    """Columns of rows, whether only one row was given as such, and whether it came as arrays.

    Raises: DataError when rows have no ids, or columns differ in their number of rows.
    """
    if isinstance(examples, Mapping):
        given: dict[str, Any] = dict(examples)
    elif isinstance(examples, Sequence) and all(isinstance(example, Mapping) for example in examples):
        given = {name: [example.get(name) for example in examples] for name in (examples or [{}])[0]}
        _check_alike(examples)
    else:
        raise DataError(
            f"pad: expected a mapping of columns or a list of them, got {type(examples).__name__}"
        )
    if "input_ids" not in given:
        raise DataError(f"pad: expected a column input_ids, got {', '.join(given) or 'none'}")
    ids = given["input_ids"]
    arrays = hasattr(ids, "__array__") or any(hasattr(row, "__array__") for row in ids)
    plain = {name: _plain(column) for name, column in given.items()}
    ids = plain["input_ids"]
    single = bool(ids) and not isinstance(ids[0], list)
    columns = {name: [column] for name, column in plain.items()} if single else plain
    uneven = {
        name: len(column) for name, column in columns.items() if len(column) != len(columns["input_ids"])
    }
    if uneven:
        raise DataError(f"pad: expected {len(ids)} rows in every column, got {uneven}")
    return columns, single, arrays


def _check_alike(examples: Sequence[Mapping[str, Any]]) -> None:
    for number, example in enumerate(examples):
        if set(example) != set(examples[0]):
            raise DataError(
                f"pad: expected every example to have {', '.join(examples[0])}; "
                f"example {number} has {', '.join(example)}"
            )


def _plain(column: Any) -> Any:
    """Lists instead of arrays, tensors and tuples; numbers and the like stay as they are."""
    if hasattr(column, "__array__"):
        return np.asarray(column).tolist()
    return [_plain(row) for row in column] if isinstance(column, (list, tuple)) else column
