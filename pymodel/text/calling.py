"""A tokenizer's call: texts cut, padded and laid out as the columns of a batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tokenizers

from pymodel.errors import ConfigError, DataError
from pymodel.text.batch_encoding import BatchEncoding
from pymodel.text.options import EncodingOptions
from pymodel.text.samples import Sample, samples_of

if TYPE_CHECKING:
    from pymodel.text.encoder import TextEncoder

# Files write 10**30 where a model has no longest sequence.
NO_LIMIT = 10**20


def encode_call(tokenizer: TextEncoder, text: Any, text_pair: Any, options: EncodingOptions) -> BatchEncoding:
    """What `TextEncoder.__call__` returns for one text, or for one batch of them."""
    samples, batched = samples_of(text, text_pair, options.is_split_into_words)
    with _limited(tokenizer, samples, options) as backend:
        try:
            encodings = backend.encode_batch(
                [sample if len(sample) == 2 else sample[0] for sample in samples],
                is_pretokenized=options.is_split_into_words,
                add_special_tokens=options.add_special_tokens,
            )
        except Exception as problem:  # the library raises bare Exception, as for a text too short to cut
            raise DataError(
                f"tokenizing failed: {problem}; options were truncation={options.truncation!r}, "
                f"max_length={options.max_length!r}"
            ) from problem
    data, rows = _columns(encodings, options, tokenizer.model_input_names)
    _warn_of_length(tokenizer, rows, options)
    if not batched and options.return_tensors is None and not options.return_overflowing_tokens:
        data = {name: column[0] if isinstance(column[0], list) else column for name, column in data.items()}
    return BatchEncoding(data, rows, options.return_tensors)


@contextmanager
def _limited(
    tokenizer: TextEncoder, samples: Sequence[Sample], options: EncodingOptions
) -> Iterator[tokenizers.Tokenizer]:
    """The backend with the padding and truncation of one call; other threads wait meanwhile."""
    backend = tokenizer.backend_tokenizer
    truncation = _truncation(tokenizer, samples, options)
    padding = padding_of(tokenizer, options, truncation)
    with tokenizer.lock:
        try:
            if truncation is not None:
                backend.enable_truncation(**truncation)
            if padding is not None:
                backend.enable_padding(**padding)
            yield backend
        finally:
            backend.no_truncation()
            backend.no_padding()


def _truncation(
    tokenizer: TextEncoder, samples: Sequence[Sample], options: EncodingOptions
) -> dict[str, Any] | None:
    strategy = options.truncation_strategy
    if strategy is None:
        return None
    length = options.max_length
    if length is None:
        if tokenizer.model_max_length > NO_LIMIT:
            warnings.warn(
                f"truncation={options.truncation!r} has no length to cut to: this tokenizer has no "
                "model_max_length; give max_length",
                stacklevel=6,
            )
            return None
        length = tokenizer.model_max_length
    has_pairs = any(len(sample) == 2 for sample in samples)
    added = tokenizer.num_special_tokens_to_add(has_pairs) if options.add_special_tokens else 0
    # The library would leave texts uncut for the first, and abort for the second.
    if length < added:
        raise ConfigError(
            f"max_length={length}: the {added} special tokens of each row do not fit; "
            f"expected {added} or more, or add_special_tokens=False"
        )
    if options.stride and options.stride >= length - added:
        raise ConfigError(
            f"stride={options.stride}: expected less than {length - added}, which is max_length without "
            f"the {added} special tokens; otherwise overflow never ends"
        )
    return {
        "max_length": length,
        "strategy": strategy,
        "stride": options.stride,
        "direction": tokenizer.truncation_side,
    }


def padding_of(
    tokenizer: TextEncoder, options: EncodingOptions, truncation: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """How rows are padded, in the words of the `tokenizers` library; None when they are not.

    Raises: ConfigError when there is no padding token or no length to pad to.
    """
    strategy = options.padding_strategy
    if strategy is None:
        return None
    if tokenizer.pad_token is None or tokenizer.pad_token_id is None:
        raise ConfigError(
            f"padding={options.padding!r}: this tokenizer has no padding token; set one of the vocabulary, "
            "tokenizer.pad_token = tokenizer.eos_token, or add one, "
            "tokenizer.add_special_tokens({'pad_token': '[PAD]'})"
        )
    length = options.max_length or tokenizer.model_max_length
    if strategy == "max_length" and length > NO_LIMIT:
        raise ConfigError("padding='max_length': this tokenizer has no model_max_length; give max_length")
    multiple = options.pad_to_multiple_of
    if multiple and truncation is not None and truncation["max_length"] % multiple:
        raise ConfigError(
            f"pad_to_multiple_of={multiple}: rows are cut to {truncation['max_length']}, which is no "
            "multiple of it; choose a max_length that is"
        )
    if strategy == "longest" and options.max_length is not None and options.truncation_strategy is None:
        warnings.warn(
            f"max_length={options.max_length} does nothing with padding={options.padding!r} and no "
            "truncation; give truncation=True to cut, or padding='max_length' to pad to it",
            stacklevel=6,
        )
    return {
        "length": length if strategy == "max_length" else None,
        "direction": options.padding_side or tokenizer.padding_side,
        "pad_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token,
        "pad_type_id": tokenizer.pad_token_type_id,
        "pad_to_multiple_of": multiple,
    }


def _columns(
    encodings: list[tokenizers.Encoding], options: EncodingOptions, input_names: Sequence[str]
) -> tuple[dict[str, list[Any]], list[tokenizers.Encoding]]:
    rows, owners = encodings, list(range(len(encodings)))
    if options.return_overflowing_tokens:
        rows = [row for encoding in encodings for row in (encoding, *encoding.overflowing)]
        owners = [i for i, encoding in enumerate(encodings) for _ in range(1 + len(encoding.overflowing))]
    wanted = {
        "token_type_ids": options.return_token_type_ids,
        "attention_mask": options.return_attention_mask,
    }
    wanted = {name: name in input_names if asked is None else asked for name, asked in wanted.items()}
    data: dict[str, list[Any]] = {"input_ids": [row.ids for row in rows]}
    if wanted["token_type_ids"]:
        data["token_type_ids"] = [row.type_ids for row in rows]
    if wanted["attention_mask"]:
        data["attention_mask"] = [row.attention_mask for row in rows]
    if options.return_special_tokens_mask:
        data["special_tokens_mask"] = [row.special_tokens_mask for row in rows]
    if options.return_offsets_mapping:
        data["offset_mapping"] = [row.offsets for row in rows]
    if options.return_length:
        data["length"] = [len(row) for row in rows]
    if options.return_overflowing_tokens:
        data["overflow_to_sample_mapping"] = owners
    return data, rows


def _warn_of_length(
    tokenizer: TextEncoder, rows: Sequence[tokenizers.Encoding], options: EncodingOptions
) -> None:
    longest = max(map(len, rows), default=0)
    if options.max_length is None and longest > tokenizer.model_max_length:
        warnings.warn(
            f"a row has {longest} tokens, but the model takes {tokenizer.model_max_length}; "
            "call the tokenizer with truncation=True",
            stacklevel=4,
        )
