"""Text sources: from what the user names to a stream of documents."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from pymodel.data.corpus import standard_library_files, standard_library_root
from pymodel.data.readers import Document, open_bytes, read_documents
from pymodel.errors import DataError

Spec: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
OnSkip: TypeAlias = Callable[[Path, str], None]

STANDARD_LIBRARY = "stdlib"

# Files that are no text whatever their first bytes are.
_BINARY_SUFFIXES = frozenset(
    """
    .7z .a .avi .bin .bmp .bz2 .class .dll .docx .dylib .exe .flac .gif .h5 .ico .jar .jpeg .jpg .mkv
    .mov .mp3 .mp4 .npy .npz .o .odt .ogg .onnx .parquet .pdf .pickle .pkl .png .pptx .pt .pth .pyc .pyd
    .rar .safetensors .so .sqlite .tar .tgz .tiff .ttf .wav .webm .webp .whl .woff .woff2 .xlsx .xz .zip
    .zst
    """.split()  # noqa: SIM905 (a list of 50 quoted words is harder to read)
)
_SNIFFED_BYTES = 8192


class Documents(Protocol):
    """Documents that can be read again and again, with a hash that changes when they do."""

    def __iter__(self) -> Iterator[Document]: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class SourceFile:
    """A file to read and its name below the corpus root, the same on any machine."""

    path: Path
    name: str


class Corpus:
    """All the documents of a text source, read anew at each iteration and never held whole.

    Args:
        spec: a text file (one document); a `.jsonl` with "text" in each line (a document each); either with
            `.gz` behind; a folder (recursively, hidden files left out); a glob; the word `stdlib`, the
            source of Python's standard library; or a list of those. All text is UTF-8.
        on_skip: called with the path and the reason for each binary file that a folder or glob turns up; such
            files are left out. By default one warning says how many. A binary file named itself is an error.

    Raises:
        DataError: something named is missing, or a folder or glob holds no text file. Iterating raises it
            for a file that is not UTF-8 text, a line that is not as in a `.jsonl`, and when there is no text
            at all.
    """

    def __init__(self, spec: Spec, on_skip: OnSkip | None = None) -> None:
        items = [spec] if isinstance(spec, (str, os.PathLike)) else list(spec)
        if not items:
            raise DataError("text source: expected a file, folder, glob or 'stdlib', got an empty list")
        skipped: list[tuple[Path, str]] = []
        found: dict[str, SourceFile] = {}
        for item in items:
            for file in _expand(item, skipped):
                found.setdefault(os.path.abspath(file.path), file)
        self.files = list(found.values())
        self._described = ", ".join(os.fspath(item) for item in items[:3]) + (", …" if len(items) > 3 else "")
        _tell_skipped(skipped, on_skip)

    def __iter__(self) -> Iterator[Document]:
        empty = True
        for file in self.files:
            for document in read_documents(file.path, file.name):
                empty = False
                yield document
        if empty:
            raise DataError(
                f"{self._described}: no text in {len(self.files)} file(s), all are empty; name others"
            )

    @property
    def fingerprint(self) -> str:
        """A hash of every file's path, size and time of change."""
        try:
            states = [(file, file.path.stat()) for file in self.files]
        except OSError as problem:
            raise DataError(
                f"{problem.filename}: cannot be read ({problem.strerror}); name the data anew"
            ) from problem
        rows = [
            [file.name, os.path.abspath(file.path), state.st_size, state.st_mtime_ns]
            for file, state in states
        ]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the files on disk, packed ones as they are; a cheap total for a progress bar."""
        return sum(file.path.stat().st_size for file in self.files)

    def __repr__(self) -> str:
        return f"Corpus({self._described!r}, files={len(self.files)})"


def resolve(spec: Spec, on_skip: OnSkip | None = None) -> list[Path]:
    """The files that a text source stands for, in reading order; see `Corpus`."""
    return [file.path for file in Corpus(spec, on_skip).files]


def iter_documents(spec: Spec, on_skip: OnSkip | None = None) -> Iterator[Document]:
    """Stream the documents of a text source; see `Corpus`. A long text comes in pieces of one name."""
    return iter(Corpus(spec, on_skip))


def _expand(item: str | os.PathLike[str], skipped: list[tuple[Path, str]]) -> list[SourceFile]:
    text = os.fspath(item)
    if text == STANDARD_LIBRARY:
        root = standard_library_root()
        return [SourceFile(path, path.relative_to(root).as_posix()) for path in standard_library_files()]
    path = Path(text).expanduser()
    try:
        if not text:
            raise DataError("text source: expected a file, folder, glob or 'stdlib', got an empty name")
        if path.is_dir():
            return _texts_among(_walk(path), path, f"{path}: no text file in this folder", skipped)
        if path.is_file():
            return [SourceFile(path, path.name)]
        if path.exists():
            raise DataError(
                f"{path}: not a regular file, and it is read more than once; save it to a file first"
            )
        if glob.has_magic(text):
            return _glob(str(path), skipped)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise DataError(
            f"{text[:200]}: cannot be read ({reason}); check the path and its permissions"
        ) from problem
    raise DataError(f"{text}: no such file or folder (looked from {os.getcwd()}); check the path")


def _walk(root: Path) -> list[Path]:
    """The files below a folder, sorted by path, hidden ones and those in hidden folders left out."""

    def stop(problem: OSError) -> None:
        raise problem

    found: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=stop):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(
        (path for path in found if path.is_file()), key=lambda path: path.relative_to(root).as_posix()
    )


def _glob(pattern: str, skipped: list[tuple[Path, str]]) -> list[SourceFile]:
    matches = sorted(glob.glob(pattern, recursive=True))
    files = [Path(match) for match in matches if os.path.isfile(match)]
    if not files:
        reason = (
            "matches folders only, name them or add /**" if matches else "matches nothing, check the path"
        )
        raise DataError(f"{pattern}: this glob {reason}")
    parts = Path(pattern).parts
    fixed = next(count for count, part in enumerate(parts) if glob.has_magic(part))
    return _texts_among(files, Path(*parts[:fixed]), f"{pattern}: no text file matches this glob", skipped)


def _texts_among(
    files: list[Path], root: Path, complaint: str, skipped: list[tuple[Path, str]]
) -> list[SourceFile]:
    texts: list[SourceFile] = []
    binary = 0
    for path in files:
        if reason := _why_binary(path):
            skipped.append((path, reason))
            binary += 1
        else:
            texts.append(SourceFile(path, path.relative_to(root).as_posix()))
    if not texts:
        raise DataError(f"{complaint} ({binary} binary left out); name one that holds UTF-8 text")
    return texts


def _why_binary(path: Path) -> str:
    """Why a file is certainly no text, or nothing.

    Text in another encoding than UTF-8 has no NUL bytes and passes: it is an error when read, since leaving
    it out in silence would lose text that somebody meant to be learnt.
    """
    names = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    if binary := [suffix for suffix in names if suffix.lower() in _BINARY_SUFFIXES]:
        return f"a {binary[0]} file"
    with open_bytes(path) as stream:
        return "a NUL byte in it" if 0 in stream.read(_SNIFFED_BYTES) else ""


def _tell_skipped(skipped: list[tuple[Path, str]], on_skip: OnSkip | None) -> None:
    if on_skip is not None:
        for path, reason in skipped:
            on_skip(path, reason)
    elif skipped:
        path, reason = skipped[0]
        warnings.warn(f"left out {len(skipped)} binary file(s), the first {path} ({reason})", stacklevel=3)
