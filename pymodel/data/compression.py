"""What a general compressor makes of a text: the yardstick beside a model's bits per byte."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pymodel.data.readers import open_bytes
from pymodel.errors import DataError

_GZIP_FORMAT = 31  # zlib's window bits: 15 for the largest window, 16 for gzip's header and trailer
_CHUNK_BYTES = 1 << 20


def gzip_bits_per_byte(texts: Iterable[str | bytes | Path]) -> float:
    """Bits that `gzip -9` needs for each byte of texts laid end to end.

        bits per byte = 8 * compressed bytes / bytes

    A language model's loss compares as (nats of all the predicted tokens) / (ln 2 * bytes).

    Args:
        texts: a str is text, counted in UTF-8; a Path is a file to read, unpacked first when it ends in
            `.gz`. Streamed, never held whole.

    Raises:
        DataError: there is not one byte, or a file cannot be read.
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, _GZIP_FORMAT)
    size = packed = 0
    for text in texts:
        for chunk in _chunks(text):
            size += len(chunk)
            packed += len(compressor.compress(chunk))
    if size == 0:
        raise DataError("gzip_bits_per_byte: expected some text, got none; check the held-out files")
    return 8 * (packed + len(compressor.flush())) / size


def _chunks(text: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(text, str):
        yield text.encode()
    elif isinstance(text, bytes):
        yield text
    else:
        with open_bytes(text) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
