"""A chat tokenizer's call: conversations as one text each, then as a model's inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tokenizers

from pymodel.text.batch_encoding import BatchEncoding
from pymodel.text.calling import encode_call
from pymodel.text.chat import Rendered
from pymodel.text.options import EncodingOptions

if TYPE_CHECKING:
    from pymodel.text.encoder import TextEncoder


def encode_chats(
    tokenizer: TextEncoder,
    chats: Sequence[Rendered],
    batched: bool,
    options: EncodingOptions,
    with_assistant_masks: bool,
) -> BatchEncoding:
    """The inputs of a model.

    Args:
        chats: conversations as text.
        batched: whether they are a batch, or a single one.
        options: of the tokenizer's call.
        with_assistant_masks: add the column `assistant_masks`, 1 for tokens that the assistant wrote.
    """
    texts = [chat.text for chat in chats]
    # Arrays are made last, of the masks too.
    lists = dataclasses.replace(options, return_tensors=None)
    encoded = encode_call(tokenizer, texts if batched else texts[0], None, lists)
    if with_assistant_masks and encoded.encodings is not None:
        pairs = zip(encoded.encodings, chats, strict=True)
        masks = [_assistant_mask(encoding, chat) for encoding, chat in pairs]
        encoded["assistant_masks"] = masks if batched else masks[0]
    return encoded.convert_to_tensors(options.return_tensors)


def _assistant_mask(encoding: tokenizers.Encoding, chat: Rendered) -> list[int]:
    """1 for each token with a character inside a span; tokens without characters are special or padding."""
    return [
        int(any(first < end and last > start for start, end in chat.assistant_spans))
        for first, last in encoding.offsets
    ]
