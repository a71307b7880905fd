"""One file to documents: bytes, UTF-8, gzip and JSON lines, read in bounded memory."""

import codecs
import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pymodel.errors import DataError

# Characters of one piece of a long text: large enough that its ends do not count, small enough to hold many.
PIECE_CHARACTERS = 1 << 20

# Where a long text may be cut, best first. At the first two, GPT-2's pattern cuts as well, so that the tokens
# are those of the uncut text; white space otherwise.
_CUTS = (re.compile(r"(?<=\S\n)(?=\S)"), re.compile(r"(?<=\S)(?= \S)"), re.compile(r"(?<=\s)"))
_CUT_REACH = 1 << 16


@dataclass(frozen=True)
class Document:
    """A text, or one piece of a text too long to hold.

    Attributes:
        name: the path below the corpus root, with `:line` for a line of a `.jsonl`; the same on any machine.
        text: never empty.
        piece: 0 begins a document; 1, 2, … carry it on.
    """

    name: str
    text: str
    piece: int = 0


def read_documents(path: Path, name: str) -> Iterator[Document]:
    """Stream the documents of one file.

    Args:
        path: a text file, one document; or a `.jsonl` with "text" in each line, a document each; or either
            with `.gz` behind.
        name: what the documents are called.

    Raises:
        DataError: the file cannot be read, is not UTF-8 text, or a line is not what a `.jsonl` holds.
    """
    if is_json_lines(path):
        yield from _json_lines(path, name)
    else:
        for piece, text in enumerate(_cut(_characters(path))):
            yield Document(name, text, piece)


def is_json_lines(path: Path) -> bool:
    """Whether the name says JSON lines, gzipped or not."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-1:] == [".jsonl"] or suffixes[-2:] == [".jsonl", ".gz"]


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacking `.gz`, and say in one line whatever goes wrong while it is read.

    Raises:
        DataError: the file is missing, unreadable, a folder, or no whole gzip file.
    """
    try:
        packed = path.suffix.lower() == ".gz"
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            yield cast(BinaryIO, stream)
    except EOFError as problem:
        raise DataError(f"{path}: gzip file ends early; it was cut off, copy it again") from problem
    except (gzip.BadGzipFile, zlib.error) as problem:
        raise DataError(
            f"{path}: not a sound gzip file ({problem}); copy it again or drop the .gz"
        ) from problem
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise DataError(f"{path}: cannot be read ({reason}); check the path and its permissions") from problem


def _characters(path: Path) -> Iterator[str]:
    """Decode a file chunk by chunk, exactly (no newline is translated), without a byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    place = "of the unpacked text" if path.suffix.lower() == ".gz" else "of the file"
    position = 0
    with open_bytes(path) as stream:
        while True:
            chunk = stream.read(io.DEFAULT_BUFFER_SIZE * 32)
            if position == 0 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError(f"{path}: looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
            if (zero := chunk.find(0)) >= 0:
                raise DataError(
                    f"{path}: a binary file (NUL at byte {position + zero} {place}); expected text in UTF-8, "
                    "leave it out"
                )
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as problem:
                offset = position - waiting + problem.start
                raise DataError(
                    f"{path}: not UTF-8 (0x{problem.object[problem.start]:02x} at byte {offset} {place}); "
                    "convert it with iconv -t UTF-8 or leave it out"
                ) from None
            yield text.removeprefix("\ufeff") if position == 0 else text
            if not chunk:
                return
            position += len(chunk)


def _cut(parts: Iterator[str]) -> Iterator[str]:
    """Join parts and cut them again into pieces of at most PIECE_CHARACTERS."""
    buffer = ""
    for part in parts:
        buffer += part
        while len(buffer) > PIECE_CHARACTERS:
            end = _last_cut(buffer, PIECE_CHARACTERS)
            yield buffer[:end]
            buffer = buffer[end:]
    if buffer:
        yield buffer


def _last_cut(text: str, limit: int) -> int:
    """The best place to cut at or shortly before `limit`; inside a word only when there is nothing else."""
    for pattern in _CUTS:
        # One character more than the limit: a pattern looks at what follows the cut.
        places = [match.start() for match in pattern.finditer(text, max(1, limit - _CUT_REACH), limit + 2)]
        places = [place for place in places if place <= limit]
        if places:
            return places[-1]
    return limit


def _json_lines(path: Path, name: str) -> Iterator[Document]:
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            text = _text_of_line(line, f"{path}, line {number}")
            for piece, part in enumerate(_cut(iter((text,)))):
                yield Document(f"{name}:{number}", part, piece)


def _text_of_line(line: bytes, where: str) -> str:
    wanted = 'expected a JSON object with "text", as in {"text": "…"}'
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{where}: not UTF-8 (byte 0x{line[problem.start]:02x} at byte {problem.start} of the line); "
            "convert the file with iconv -t UTF-8"
        ) from None
    except json.JSONDecodeError as problem:
        raise DataError(f"{where}: {wanted}, got no JSON ({problem.msg} at column {problem.colno})") from None
    except RecursionError:
        raise DataError(f"{where}: {wanted}, got JSON nested too deeply to read; mend the line") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: {wanted}, got {_kind(record)}")
    if "text" not in record:
        keys = ", ".join(repr(key) for key in list(record)[:8]) or "none"
        raise DataError(f'{where}: no "text" in it, its keys are {keys}; rename the one that holds the text')
    if not isinstance(record["text"], str):
        raise DataError(f'{where}: expected a string as "text", got {_kind(record["text"])}')
    text: str = record["text"]
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise DataError(
            f'{where}: "text" holds half a surrogate pair at character {problem.start}; mend its \\u escapes'
        ) from None
    return text


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
