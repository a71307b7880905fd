"""The work behind `pymodel embed`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pymodel.cli.devices import choose_device
from pymodel.cli.embed import EmbedOptions
from pymodel.cli.lines import pair_of, read_lines
from pymodel.errors import ConfigError, DataError
from pymodel.files import atomic_file
from pymodel.inference import SentenceEncoder


def embed(options: EmbedOptions) -> None:
    """Writes vectors, or ranked pairs."""
    suffix = Path(options.out).suffix if options.out else ""
    if options.out and suffix not in (".npy", ".jsonl"):
        raise ConfigError(f"--out {options.out}: expected a name that ends in .npy or .jsonl")
    if options.pairs and suffix == ".npy":
        raise ConfigError(f"--out {options.out}: ranked pairs are text; give a name that ends in .jsonl")
    lines = read_lines(options.input)
    pairs = [pair_of(line, number) for number, line in enumerate(lines, 1)] if options.pairs else []
    encoder = SentenceEncoder.from_pretrained(options.model, options.dtype, choose_device(options.device))
    if options.pairs:
        _write(options.out, _ranked(encoder, pairs, options))
        return
    vectors = encoder.encode(lines, options.batch_size)
    if suffix == ".npy":
        content = io.BytesIO()
        np.save(content, vectors)
        _write_bytes(str(options.out), content.getvalue())
    else:
        _write(options.out, _as_json(lines, vectors))


def _as_json(lines: list[str], vectors: np.ndarray) -> Iterator[str]:
    for line, vector in zip(lines, vectors, strict=True):
        yield json.dumps({"text": line, "embedding": vector.tolist()}, ensure_ascii=False)


def _ranked(encoder: SentenceEncoder, pairs: list[tuple[str, str]], options: EmbedOptions) -> Iterator[str]:
    """The pairs with their cosines, the closest first: tabs for eyes and shells, JSON for a file."""
    first, second = (
        encoder.encode([pair[side] for pair in pairs], options.batch_size, normalize=True) for side in (0, 1)
    )
    cosines = (first * second).sum(axis=1)
    for number in np.argsort(-cosines, kind="stable"):
        cosine, (one, other) = float(cosines[number]), pairs[number]
        if options.out:
            yield json.dumps({"cosine": cosine, "first": one, "second": other}, ensure_ascii=False)
        else:
            yield f"{cosine:.6f}\t{one}\t{other}"


def _write(out: str | None, lines: Iterator[str]) -> None:
    if out is None:
        for line in lines:
            sys.stdout.write(line + "\n")
    else:
        _write_bytes(out, "".join(line + "\n" for line in lines).encode())


def _write_bytes(path: str, content: bytes) -> None:
    with atomic_file(Path(path), DataError) as stream:
        stream.write(content)
