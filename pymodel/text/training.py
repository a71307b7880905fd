"""Byte-level byte-pair encoding learnt from text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers, trainers

from pymodel.errors import ConfigError, DataError
from pymodel.text.families import END_OF_TEXT, gpt2_pipeline
from pymodel.text.samples import check_text


def train_byte_level(
    texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str], show_progress: bool
) -> tokenizers.Tokenizer:
    """Learns merges from text; arguments and errors as of `Tokenizer.train`.

    Source: Sennrich et al. 2016 (arXiv:1508.07909); on bytes, Radford et al. 2019, section 2.2.
    """
    smallest = 256 + len(set(special_tokens))
    if not special_tokens or not all(special_tokens):
        raise ConfigError(
            f"special_tokens: expected at least one, none of them empty, got {tuple(special_tokens)!r}; "
            f"the first one ends a text, as {END_OF_TEXT} does"
        )
    if vocab_size < smallest:
        raise ConfigError(
            f"vocab_size: expected at least {smallest} (256 bytes and {smallest - 256} special tokens), "
            f"got {vocab_size}"
        )
    backend = gpt2_pipeline(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,  # a pair seen once stands for nothing but the place it was seen at
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
        # Bytes the text never shows are in the vocabulary all the same: any prompt can be encoded.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )
    backend.train_from_iterator(_at_least_one(texts), trainer)
    return backend


def _at_least_one(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on; a tokenizer of no text at all is a mistake that shows much later."""
    empty = True
    for number, text in enumerate(texts):
        check_text(text, number)
        empty = empty and not text
        yield text
    if empty:
        raise DataError("training a tokenizer: expected some text, got none; check the data's path")
