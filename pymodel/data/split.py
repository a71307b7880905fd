"""Held-out text: which part of a corpus the model is never trained on."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pymodel.data.readers import Document
from pymodel.data.sources import Corpus, Documents, Spec
from pymodel.errors import ConfigError, DataError

# How far the held-out share may be from the one asked for before whole documents give way to the tail.
_TOLERATED_FACTOR = 3.0
_LONGEST_REACH = 4096


@dataclass(frozen=True)
class Part:
    """One side of a split, as documents that can be read again and again.

    Attributes:
        text_bytes: UTF-8 bytes of its text.
        document_count: documents in it, whole or in part.
        fingerprint: changes when the corpus or the split does.
    """

    text_bytes: int
    document_count: int
    fingerprint: str
    _read: Callable[[], Iterator[Document]]

    def __iter__(self) -> Iterator[Document]:
        return self._read()


@dataclass(frozen=True)
class Split:
    """A corpus in two parts that share no text.

    Attributes:
        train: what the model learns.
        held_out: what it is judged by.
        method: "document" when whole documents are held out, "tail" when it is the end of the corpus.
    """

    train: Part
    held_out: Part
    method: str


def split_documents(
    source: Spec | Documents,
    fraction: float = 0.05,
    minimum_bytes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Split:
    """Hold out part of a corpus, the same part on every run and machine.

    A document is held out when hash(name) / 2^64 < fraction, name being its path below the corpus root. Where
    that gives a share far from the one asked for (a single file, a handful, one much larger than the rest),
    the last `fraction` of the corpus's bytes is held out instead, cut at a line or word when one is near.

    Args:
        source: a text source as `Corpus` takes it, or a `Corpus`. It is read once to count its bytes.
        fraction: share of the bytes to hold out, between 0 and 1.
        minimum_bytes: the least either part may have.
        progress: called with the bytes counted so far.

    Raises:
        ConfigError: fraction is not between 0 and 1, or minimum_bytes is less than 1.
        DataError: the corpus is too small; says how much more text it takes.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"fraction: expected a number between 0 and 1, got {fraction}")
    if minimum_bytes < 1:
        raise ConfigError(f"minimum_bytes: expected 1 or more, got {minimum_bytes}")
    corpus = Corpus(source) if isinstance(source, (str, os.PathLike, Sequence)) else source
    split = _by_document(corpus, fraction, progress)
    total = split.train.text_bytes + split.held_out.text_bytes
    if total < 2 * minimum_bytes:
        raise _too_small(split, fraction, minimum_bytes)
    share = split.held_out.text_bytes / total
    off = max(share / fraction, fraction / share) if 0.0 < share < 1.0 else math.inf
    if off > _TOLERATED_FACTOR or share > max(fraction, 0.5) or _smaller(split) < minimum_bytes:
        split = _by_tail(corpus, fraction, total)
    if _smaller(split) < minimum_bytes:
        raise _too_small(split, fraction, minimum_bytes)
    return split


def is_held_out(name: str, fraction: float) -> bool:
    """Whether the document of this name is among the `fraction` held out."""
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2.0**64


def _by_document(corpus: Documents, fraction: float, progress: Callable[[int], None] | None) -> Split:
    sizes, counts = [0, 0], [0, 0]
    for document in corpus:
        side = is_held_out(document.name, fraction)
        sizes[side] += len(document.text.encode())
        counts[side] += document.piece == 0
        if progress is not None:
            progress(sum(sizes))

    def reader(side: bool) -> Callable[[], Iterator[Document]]:
        return lambda: (item for item in corpus if is_held_out(item.name, fraction) == side)

    parts = [
        Part(sizes[side], counts[side], _fingerprint(corpus, "document", fraction, side), reader(side))
        for side in (False, True)
    ]
    return Split(parts[0], parts[1], "document")


def _by_tail(corpus: Documents, fraction: float, total: int) -> Split:
    held_out = max(1, round(total * fraction))
    cut = _find_cut(corpus, total - held_out, reach=min(_LONGEST_REACH, held_out // 2))

    def reader(side: bool) -> Callable[[], Iterator[Document]]:
        return (lambda: _after(corpus, cut)) if side else (lambda: _before(corpus, cut))

    parts = []
    for side, size in ((False, cut), (True, total - cut)):
        documents = sum(item.piece == 0 for item in reader(side)())
        parts.append(Part(size, documents, _fingerprint(corpus, "tail", cut, side), reader(side)))
    return Split(parts[0], parts[1], "tail")


def _find_cut(corpus: Documents, target: int, reach: int) -> int:
    """The byte of the corpus, near `target`, at which its tail begins: always between two characters."""
    position = 0
    for document in corpus:
        encoded = document.text.encode()
        if position + len(encoded) > target:
            here = len(encoded[: target - position].decode(errors="ignore"))
            return position + len(document.text[: _boundary(document.text, here, reach)].encode())
        position += len(encoded)
    return position


def _boundary(text: str, target: int, reach: int) -> int:
    """The line start nearest to `target` within `reach` characters, or word start, or `target` itself."""
    start = max(1, target - reach)
    for pattern in (r"(?<=\n)", r"(?<=\s)(?=\S)"):
        matches = re.compile(pattern).finditer(text, start, target + reach)
        # Not the very end of the text: the tail would begin after the last word of the corpus.
        places = [match.start() for match in matches if match.start() < len(text)]
        if places:
            return min(places, key=lambda place: abs(place - target))
    return target


def _before(corpus: Documents, cut: int) -> Iterator[Document]:
    position = 0
    for document in corpus:
        if position >= cut:
            return
        encoded = document.text.encode()
        yield Document(document.name, encoded[: cut - position].decode(), document.piece)
        position += len(encoded)


def _after(corpus: Documents, cut: int) -> Iterator[Document]:
    position = 0
    first_piece: tuple[str, int] | None = None
    for document in corpus:
        encoded = document.text.encode()
        rest = encoded[max(0, cut - position) :]
        position += len(encoded)
        if not rest:
            continue
        # The document that was cut begins anew here, so that its pieces are counted from 0 again.
        if first_piece is None or document.piece == 0:
            first_piece = (document.name, document.piece)
        yield Document(document.name, rest.decode(), document.piece - first_piece[1])


def _too_small(split: Split, fraction: float, minimum_bytes: int) -> DataError:
    sizes = split.train.text_bytes, split.held_out.text_bytes
    missing = math.ceil(minimum_bytes / min(fraction, 1.0 - fraction)) + 1 - sum(sizes)
    advice = f"add {missing} bytes of text" if missing > 0 else "add text in shorter lines"
    return DataError(
        f"the corpus holds {sum(sizes)} bytes, too few to split: {sizes[0]} to train on and {sizes[1]} held "
        f"out, where each needs {minimum_bytes}; {advice} or change the held-out share of {fraction:g}"
    )


def _smaller(split: Split) -> int:
    return min(split.train.text_bytes, split.held_out.text_bytes)


def _fingerprint(corpus: Documents, *parameters: object) -> str:
    return hashlib.sha256(repr((corpus.fingerprint, *parameters)).encode()).hexdigest()
