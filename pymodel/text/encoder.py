"""Text to the inputs of a model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken

from pymodel.text.batch_encoding import BatchEncoding
from pymodel.text.calling import encode_call
from pymodel.text.options import SIDES, EncodingOptions, options_of
from pymodel.text.padding import pad_examples
from pymodel.text.samples import check_text
from pymodel.text.settings import Setting
from pymodel.text.vocabulary import Vocabulary


class TextEncoder(Vocabulary):
    """Text to token ids; calling it makes a model's inputs.

    Args:
        backend: a tokenizer of the `tokenizers` library.
        config: what `tokenizer_config.json` holds.
        target: another backend of the same vocabulary, for `text_target`.
    """

    padding_side: Setting[str] = Setting("right", SIDES)
    truncation_side: Setting[str] = Setting("right", SIDES)
    model_max_length: Setting[int] = Setting(10**30)
    model_input_names: Setting[Sequence[str]] = Setting(("input_ids", "attention_mask"))
    pad_token_type_id = 0

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: Mapping[str, Any] | None = None,
        target: tokenizers.Tokenizer | None = None,
    ) -> None:
        super().__init__(backend, config)
        self._target = None if target is None else TextEncoder(target)
        if self._target is not None:
            self._target._config = self._config  # sides and tokens that are set later are set for both
        # Padding and truncation set in a foreign file would silently change what `encode` returns.
        backend.no_padding()
        backend.no_truncation()
        # Padding and truncation are state of the backend: one call at a time.
        self.lock = threading.Lock()
        for name in ("padding_side", "truncation_side"):
            setattr(self, name, getattr(self, name))

    def __call__(
        self, text: Any = None, text_pair: Any = None, text_target: Any = None, **options: Any
    ) -> BatchEncoding:
        """The inputs of a model.

        Args:
            text: a text, or a list of them for a batch. A text is a string, or a list of words with
                `is_split_into_words=True`.
            text_pair: what follows each text in its row, in the same form as `text`.
            text_target: texts whose ids become the column `labels`; without `text`, the texts of the rows.
            options: those of `EncodingOptions`: padding, truncation, max_length, return_tensors and so on.

        Returns:
            Columns such as `input_ids`: a list of rows each, one row for a single text; arrays of
            (batch, tokens) with `return_tensors`.

        Raises:
            ConfigError: an option that does not exist, or that this tokenizer or length does not allow.
            DataError: texts of the wrong type or form, or not in UTF-8.
        """
        chosen = options_of(options)
        target = self._target or self
        if text is None and text_target is not None:
            return encode_call(target, text_target, text_pair, chosen)
        encoded = encode_call(self, text, text_pair, chosen)
        if text_target is not None:
            encoded["labels"] = encode_call(target, text_target, None, chosen)["input_ids"]
        return encoded

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """As `Vocabulary.add_tokens`, for `text_target` too."""
        if self._target is not None:
            self._target.add_tokens(new_tokens, special_tokens)
        return super().add_tokens(new_tokens, special_tokens)

    def encode(
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **options: Any
    ) -> list[int]:
        """The token ids of one text, or of a pair.

        Args:
            text: any text. A special token written out in it becomes that token's id.
            text_pair: what follows it.
            add_special_tokens: let the file's template add its own (BERT's `[CLS]`); GPT-2 has none.
            options: as of a call; with `return_tensors` the ids are an array of (1, tokens).

        Raises:
            DataError: the text cannot be written in UTF-8 (lone surrogates).
        """
        if text_pair is None and not options:
            return self.encode_batch([text], add_special_tokens)[0]
        ids: list[int] = self(text, text_pair, add_special_tokens=add_special_tokens, **options)["input_ids"]
        return ids

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """The token ids of several texts, on all the cores, and nothing else: faster than a call."""
        for number, text in enumerate(texts):
            check_text(text, number)
        with self.lock:
            # Without character offsets, which nobody asked for.
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text, as the vocabulary spells them."""
        return encode_call(self, text, pair, EncodingOptions(add_special_tokens=add_special_tokens)).tokens()

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens the template adds to a text, or to a pair."""
        return int(self._backend.num_special_tokens_to_add(pair))

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Bring rows that are tokens already to one length.

        Args:
            encoded_inputs: columns of rows, as a call returns them, or a list of rows with their columns.
                `input_ids`, `attention_mask`, `token_type_ids` and `special_tokens_mask` are padded, other
                columns are passed on.
            padding, max_length, pad_to_multiple_of, padding_side, return_attention_mask, return_tensors:
                as of a call. Rows that are arrays come back as arrays.

        Raises:
            ConfigError: as of a call.
            DataError: there is no column `input_ids`, or columns do not fit together.
        """
        options = EncodingOptions(
            padding=padding,
            truncation=False,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )
        return pad_examples(self, encoded_inputs, options)
