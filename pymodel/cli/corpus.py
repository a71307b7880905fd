"""From what the user names as data to token files; each stage is kept and used again while it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pymodel.cli.output import say
from pymodel.data import Corpus, Part, Split, TokenFile, split_documents, tokenize_corpus
from pymodel.errors import CheckpointError
from pymodel.files import atomic_file
from pymodel.text import Tokenizer

# What a tokenizer learns from at most: more text hardly changes the merges, and its words are held in memory.
_TOKENIZER_BYTES = 256 << 20
_MARK_FILE = "learnt_from"


@dataclass(frozen=True)
class PreparedText:
    """Text ready for a model.

    Attributes:
        tokenizer: made it into tokens.
        train: tokens to learn from.
        held_out: tokens to be judged by, None when nothing is held out.
        held_out_part: the text behind them.
    """

    tokenizer: Tokenizer
    train: TokenFile
    held_out: TokenFile | None
    held_out_part: Part | None


def prepare_text(
    sources: Sequence[str],
    folder: Path,
    vocab_size: int,
    held_out_fraction: float,
    tokenizer_folder: str | None,
    console: Console,
) -> PreparedText:
    """Reads, splits and tokenizes text.

    Args:
        sources: as `data.Corpus` takes them.
        folder: where the tokenizer and the token files are kept.
        vocab_size: of a tokenizer that is trained.
        held_out_fraction: share of the text that is not learnt from; 0 holds out nothing.
        tokenizer_folder: a folder whose tokenizer to use instead of training one.
        console: shows the progress.

    Raises:
        DataError: text that is missing, empty, binary or too little.
        CheckpointError: the tokenizer's folder cannot be read.
    """
    skipped: list[Path] = []
    corpus = Corpus(list(sources), lambda path, reason: skipped.append(path))
    if skipped:
        say(console, f"left out {len(skipped)} binary file(s), the first {skipped[0]}")
    with _bar(console) as bar:
        split = _split(corpus, held_out_fraction, bar.begin("reading", corpus.size))
        train: Corpus | Part = split.train if split else corpus
        size = split.train.text_bytes if split else corpus.size
        if tokenizer_folder:
            tokenizer = Tokenizer.from_pretrained(tokenizer_folder)
        else:
            progress = bar.begin("learning tokens", min(size, _TOKENIZER_BYTES))
            tokenizer = _tokenizer(train, folder, vocab_size, progress)
        train_file = tokenize_corpus(train, tokenizer, folder / "train.tokens", bar.begin("tokenizing", size))
        if split is None:
            return PreparedText(tokenizer, train_file, None, None)
        progress = bar.begin("tokenizing held-out", split.held_out.text_bytes)
        held_out = tokenize_corpus(split.held_out, tokenizer, folder / "held_out.tokens", progress)
    return PreparedText(tokenizer, train_file, held_out, split.held_out)


def _split(corpus: Corpus, fraction: float, progress: Callable[[int], None]) -> Split | None:
    return split_documents(corpus, fraction, progress=progress) if fraction else None


def _tokenizer(
    documents: Corpus | Part, folder: Path, vocab_size: int, progress: Callable[[int], None]
) -> Tokenizer:
    """The tokenizer of an earlier run on the same text, or a new one."""
    mark = hashlib.sha256(f"{documents.fingerprint} {vocab_size}".encode()).hexdigest()
    mark_path = folder / _MARK_FILE
    if mark_path.is_file() and mark_path.read_text(encoding="utf-8") == mark:
        try:
            return Tokenizer.from_pretrained(folder)
        except CheckpointError:
            pass  # half deleted by somebody: it is made anew
    tokenizer = Tokenizer.train(_first_texts(documents, progress), vocab_size)
    mark_path.unlink(missing_ok=True)  # while the files change, they are nobody's
    tokenizer.save(folder)
    with atomic_file(mark_path, CheckpointError) as stream:
        stream.write(mark.encode())
    return tokenizer


def _first_texts(documents: Corpus | Part, progress: Callable[[int], None]) -> Iterator[str]:
    seen = 0
    for document in documents:
        yield document.text
        seen += len(document.text.encode())
        progress(seen)
        if seen >= _TOKENIZER_BYTES:
            return


class _Stages(Progress):
    """A progress bar for one stage after the other."""

    def begin(self, name: str, total: int) -> Callable[[int], None]:
        """Begins a stage of `total` bytes; the result is called with the bytes done so far."""
        if not self.console.is_terminal:
            say(self.console, f"{name} ({total / 1e6:.1f} MB)")
        for task in self.tasks:
            self.update(task.id, completed=task.total)
        task_id = self.add_task(name, total=total)
        return lambda done: self.update(task_id, completed=done)


def _bar(console: Console) -> _Stages:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return _Stages(*columns, console=console, transient=True, disable=not console.is_terminal)
