"""Many texts through an encoder: tokenised, sorted by length and packed, so that padding costs nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers

from pymodel.errors import ConfigError, DataError
from pymodel.models.encoder import EncoderPretrainedModel
from pymodel.text import Tokenizer

Text = str | tuple[str, str]  # a text, or a pair that the model sees at once

# Batches whose texts are tokenised and sorted together: enough for equal lengths, little to hold.
_WINDOW = 64


@dataclasses.dataclass
class TextBatch:
    """Texts of similar length.

    rows: (batch,) int64, their numbers among all texts.
    inputs: `input_ids`, `attention_mask` and perhaps `token_type_ids`, (batch, sequence) int64 each.
    encodings: the tokenizer's account of each.
    """

    rows: np.ndarray
    inputs: dict[str, Any]
    encodings: list[tokenizers.Encoding]

    @property
    def lengths(self) -> np.ndarray:
        """(batch,) int64, the tokens of each text."""
        return np.array([len(encoding) for encoding in self.encodings], dtype=np.int64)


class TextRunner:
    """A model and its tokenizer; the classes of this package are built on it.

    Args:
        model: an encoder; it is put into evaluation mode.
        tokenizer: the one that the model was trained with.
        max_length: of texts, in tokens, which are cut there; None for as much as the model takes.

    Raises: ConfigError when the two do not fit together.
    """

    def __init__(
        self, model: EncoderPretrainedModel, tokenizer: Tokenizer, max_length: int | None = None
    ) -> None:
        if not isinstance(model, EncoderPretrainedModel):
            raise ConfigError(f"model must be an encoder such as BERT, got {type(model).__name__}")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ConfigError(
                f"tokenizer has {tokenizer.vocab_size} tokens, the model's vocab_size is "
                f"{model.config.vocab_size}; use the tokenizer that the model was trained with"
            )
        self.model, self.tokenizer = model.eval(), tokenizer
        longest = min(model.longest_text, tokenizer.model_max_length)
        self.max_length = longest if max_length is None else min(max_length, longest)

    def batches(self, texts: Sequence[Text], batch_size: int) -> Iterator[TextBatch]:
        """The texts in batches, longest first as far as texts are looked ahead.

        Raises: ConfigError for a batch_size below 1; DataError for texts that are none, or have no
        token.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        size = _WINDOW * batch_size
        for begin in range(0, len(texts), size):
            columns = self._tokenised(texts[begin : begin + size])
            lengths = np.array([len(ids) for ids in columns["input_ids"]])
            if lengths.min() == 0:
                raise DataError(f"text {begin + int(lengths.argmin())} has no token; leave it out")
            order = np.argsort(-lengths, kind="stable")
            for start in range(0, len(order), batch_size):
                yield self._batch(columns, order[start : start + batch_size], begin)

    def _tokenised(self, texts: Sequence[Text]) -> Any:
        pairs = [isinstance(text, tuple) for text in texts]
        if any(pairs) and not all(pairs):
            raise DataError("texts must be all strings or all pairs of strings, got both")
        first: list[Any] = [text[0] for text in texts] if pairs[0] else list(texts)
        second = [text[1] for text in texts] if pairs[0] else None
        return self.tokenizer(first, second, truncation=True, max_length=self.max_length)

    def _batch(self, columns: Any, rows: np.ndarray, begin: int) -> TextBatch:
        chosen = [columns.encodings[row] for row in rows]
        shape = (len(chosen), max(map(len, chosen)))
        padding = self.tokenizer.pad_token_id
        inputs: dict[str, Any] = {
            "input_ids": np.full(shape, 0 if padding is None else padding, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
        }
        if "token_type_ids" in columns:
            inputs["token_type_ids"] = np.zeros(shape, dtype=np.int64)
        for number, encoding in enumerate(chosen):
            filled = slice(0, len(encoding))
            inputs["input_ids"][number, filled] = encoding.ids
            inputs["attention_mask"][number, filled] = 1
            if "token_type_ids" in inputs:
                inputs["token_type_ids"][number, filled] = encoding.type_ids
        return TextBatch(rows + begin, inputs, chosen)
