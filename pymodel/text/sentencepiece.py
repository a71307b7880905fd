"""SentencePiece's model files, read without its library.

The file is a protocol buffer, `ModelProto`: pieces with their scores, how the model was trained, how
text is normalised. Source: https://github.com/google/sentencepiece, src/sentencepiece_model.proto;
wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from pymodel.errors import CheckpointError

_NORMAL, _USER_DEFINED = 1, 4  # kinds of pieces; the others are special, unused or single bytes
_UNIGRAM = 1  # a kind of model
# Far below every piece's own: a token with this score is chosen only where no piece fits.
_LAST_RESORT = -1e6


@dataclasses.dataclass(frozen=True)
class SentencePieceModel:
    """What a model file says.

    Attributes:
        scores: log probability of each piece that text is cut into, white space in it written as ▁.
        character_map: compiled rules of normalisation, a trie as the `tokenizers` library reads it.
        add_prefix: whether a text begins with ▁ like every other word.
        squeeze: whether white space at the ends goes, and several spaces become one.
    """

    scores: dict[str, float]
    character_map: bytes = b""
    add_prefix: bool = True
    squeeze: bool = True

    def backend(self, vocabulary: dict[str, int], unknown: str) -> tokenizers.Tokenizer:
        """A tokenizer that cuts text as the model does, with the ids of a vocabulary of its own.

        Source: Kudo 2018, "Subword Regularization" (arXiv:1804.10959), section 3.2.

        Args:
            vocabulary: ids by token, every number from 0 on. Tokens that are no pieces of the model, such
                as those of another language, stand for themselves where no piece fits.
            unknown: the token for what has none.
        """
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        scores = [(token, self.scores.get(token, _LAST_RESORT)) for token in tokens]
        backend = tokenizers.Tokenizer(models.Unigram(scores, unk_id=vocabulary[unknown]))
        steps: list[normalizers.Normalizer] = []
        if self.character_map:
            steps.append(normalizers.Precompiled(self.character_map))
        if self.squeeze:
            steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
        if self.add_prefix:
            steps.append(normalizers.Prepend("▁"))
        backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        backend.decoder = decoders.Metaspace(prepend_scheme="always" if self.add_prefix else "never")
        return backend


def parse_sentencepiece(content: bytes, path: Path) -> SentencePieceModel:
    """The model in a file's content.

    Args:
        path: names the file in messages.

    Raises: CheckpointError for content that is truncated or no model, or a model of another kind.
    """
    try:
        return _model(content)
    except (IndexError, ValueError, TypeError, struct.error) as problem:
        raise CheckpointError(f"{path}: not a whole SentencePiece model ({problem}); copy it again") from None


def _model(content: bytes) -> SentencePieceModel:
    scores: dict[str, float] = {}
    kind, normalizer = _UNIGRAM, {}
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(_bytes(value)))
            if piece.get(3, _NORMAL) in (_NORMAL, _USER_DEFINED):
                (score,) = struct.unpack("<f", _bytes(piece.get(2, bytes(4))))
                scores[_bytes(piece[1]).decode()] = score
        elif number == 2:
            kind = int(dict(_fields(_bytes(value))).get(3, _UNIGRAM))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
    if kind != _UNIGRAM:
        raise ValueError("expected a unigram model, got one of another kind")
    if not scores:
        raise ValueError("it holds no pieces")
    return SentencePieceModel(
        scores,
        character_map=_bytes(normalizer.get(2, b"")),
        add_prefix=bool(normalizer.get(3, 1)),
        squeeze=bool(normalizer.get(4, 1)),
    )


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and value of every field: an integer, or the bytes of anything else."""
    at = 0
    while at < len(message):
        key, at = _integer(message, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _integer(message, at)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire_type)
        if wire_type == 2:
            length, at = _integer(message, at)
        if length is None or at + length > len(message):
            raise ValueError(f"no field at byte {at}")
        yield number, message[at : at + length]
        at += length


def _integer(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")
    return value
