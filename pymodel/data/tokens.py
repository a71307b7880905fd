"""Token ids in a file, read through a memory map: corpora larger than memory."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pymodel.data.readers import Document
from pymodel.data.sources import Documents
from pymodel.errors import DataError
from pymodel.files import atomic_file
from pymodel.text.tokenizer import Tokenizer

# The header is a fixed block in front, so that one rename puts header and tokens in place together.
_HEADER_BYTES = 4096
_FORMAT = "pymodel tokens 1"
_DTYPES = ("<u2", "<u4")
_BATCH_CHARACTERS = 1 << 20
_CHUNK_TOKENS = 1 << 22


@dataclass(frozen=True)
class TokenHeader:
    """What a token file says of itself, as JSON in its first 4096 bytes.

    Attributes:
        dtype: "<u2" when the vocabulary fits in 16 bits, else "<u4".
        count: tokens in the file.
        vocab_size: ids are below this.
        text_bytes: UTF-8 bytes of the text they came from; bits per byte divides by it.
        document_count: documents in the text.
        checksum: CRC-32 of the tokens' bytes.
        tokenizer: the tokenizer's fingerprint.
        source: the fingerprint of the documents, empty when they have none.
    """

    dtype: str
    count: int
    vocab_size: int
    text_bytes: int
    document_count: int
    checksum: int
    tokenizer: str
    source: str
    format: str = _FORMAT


class TokenFile:
    """The tokens of a corpus as a read-only array on disk.

    Slicing gives NumPy arrays of uint16 or uint32 without reading the rest of the file.

    Args:
        path: a file written by `tokenize_corpus`.

    Raises:
        DataError: the file is missing, of another format, or not as long as its header says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as stream:
                block = stream.read(_HEADER_BYTES)
            size = self.path.stat().st_size
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise DataError(f"{self.path}: cannot be read ({reason}); tokenize the corpus first") from problem
        self.header = _parse_header(self.path, block)
        expected = _HEADER_BYTES + self.header.count * np.dtype(self.header.dtype).itemsize
        if size != expected:
            raise DataError(
                f"{self.path}: expected {expected} bytes for {self.header.count} tokens, got {size}; the "
                "file was cut off or added to, delete it and tokenize anew"
            )
        self.tokens: np.ndarray[Any, Any] = (
            np.memmap(self.path, self.header.dtype, "r", offset=_HEADER_BYTES)
            if self.header.count
            else np.empty(0, self.header.dtype)  # there is no empty memory map
        )

    def __len__(self) -> int:
        return self.header.count

    def __getitem__(self, where: Any) -> Any:
        return self.tokens[where]

    def verify(self) -> None:
        """Read every token and compare with the checksum.

        Raises:
            DataError: the tokens are not those that were written.
        """
        checksum = 0
        for start in range(0, len(self), _CHUNK_TOKENS):
            checksum = zlib.crc32(self.tokens[start : start + _CHUNK_TOKENS].data, checksum)
        if checksum != self.header.checksum:
            raise DataError(
                f"{self.path}: the tokens are damaged (checksum {checksum:08x}, expected "
                f"{self.header.checksum:08x}); delete the file and tokenize anew"
            )

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text that a token stands for, on average; loss / ln 2 / this is bits per byte."""
        return self.header.text_bytes / max(1, len(self))

    def __repr__(self) -> str:
        return f"TokenFile({str(self.path)!r}, tokens={len(self)}, dtype={self.tokens.dtype.name!r})"


def tokenize_corpus(
    documents: Documents | Iterable[Document],
    tokenizer: Tokenizer,
    path: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
) -> TokenFile:
    """Write the tokens of a corpus to a file, or use the file when it already holds just these.

    The end-of-text token comes first, and again after each document: every token of text is then predicted
    from something, and the bytes it stands for are all counted.

    Args:
        documents: a `Corpus`, a part of a `Split`, or any iterable of documents; only the first two know
            their fingerprint and can find an earlier file still good.
        tokenizer: gives the ids; must have an end-of-text token.
        path: the file to write, put in place when complete; an earlier one stays until then.
        progress: called with the UTF-8 bytes of text done so far, and once with all when the file is reused.

    Returns:
        The open token file.

    Raises:
        DataError: the text cannot be read, or the file not be written.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(f"{tokenizer!r} has no end-of-text token to put between documents; set its eos_token")
    source = getattr(documents, "fingerprint", "")
    if source and (earlier := _reusable(Path(path), tokenizer.fingerprint, source)) is not None:
        if progress is not None:
            progress(earlier.header.text_bytes)
        return earlier
    dtype = _DTYPES[tokenizer.vocab_size > 1 << 16]
    count = text_bytes = document_count = checksum = 0
    with atomic_file(path, DataError) as stream:
        stream.write(bytes(_HEADER_BYTES))
        for batch in _batches(documents):
            tokens = _encode(batch, tokenizer, end, dtype, first=count == 0)
            stream.write(tokens.data)
            checksum = zlib.crc32(tokens.data, checksum)
            count += len(tokens)
            text_bytes += sum(len(document.text.encode()) for document in batch)
            document_count += sum(document.piece == 0 for document in batch)
            if progress is not None:
                progress(text_bytes)
        if count == 0:
            raise DataError(f"{path}: expected documents to tokenize, got none; check the data's path")
        closing = np.array([end], dtype)
        stream.write(closing.data)
        header = TokenHeader(
            dtype=dtype,
            count=count + 1,
            vocab_size=tokenizer.vocab_size,
            text_bytes=text_bytes,
            document_count=document_count,
            checksum=zlib.crc32(closing.data, checksum),
            tokenizer=tokenizer.fingerprint,
            source=source,
        )
        _write_header(stream, header)
    return TokenFile(path)


def _encode(
    batch: list[Document], tokenizer: Tokenizer, end: int, dtype: str, first: bool
) -> np.ndarray[Any, Any]:
    """The tokens of a batch, each document (but not its later pieces) with the end-of-text token in front."""
    ids: list[int] = []
    encoded = tokenizer.encode_batch([document.text for document in batch], add_special_tokens=False)
    for document, tokens in zip(batch, encoded, strict=True):
        if document.piece == 0 or first:
            ids.append(end)
        first = False
        ids.extend(tokens)
    return np.array(ids, dtype)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents up to about a megabyte: enough for all the cores, little to hold."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _reusable(path: Path, tokenizer: str, source: str) -> TokenFile | None:
    """The file already there when it holds these documents in this tokenizer's ids, sound to the last one."""
    try:
        earlier = TokenFile(path)
        if (earlier.header.tokenizer, earlier.header.source) != (tokenizer, source):
            return None
        earlier.verify()
    except DataError:
        return None  # missing or damaged: it is written anew, which is what the message would have asked for
    return earlier


def _write_header(stream: BinaryIO, header: TokenHeader) -> None:
    stream.seek(0)
    stream.write(json.dumps(asdict(header)).encode().ljust(_HEADER_BYTES - 1) + b"\n")


def _parse_header(path: Path, block: bytes) -> TokenHeader:
    try:
        values = json.loads(block)
        header = TokenHeader(**values)
    except (ValueError, TypeError):
        raise DataError(
            f"{path}: not a token file, or its header is damaged; tokenize the corpus anew"
        ) from None
    # What JSON gave need not be what the dataclass declares.
    numbers: tuple[Any, ...] = (
        header.count,
        header.vocab_size,
        header.text_bytes,
        header.document_count,
        header.checksum,
    )
    if header.format != _FORMAT or header.dtype not in _DTYPES:
        raise DataError(
            f"{path}: expected format {_FORMAT!r} with {' or '.join(_DTYPES)}, got {header.format!r} with "
            f"{header.dtype!r}; tokenize the corpus with this version"
        )
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise DataError(f"{path}: its header is damaged; tokenize the corpus anew")
    return header
