"""`pymodel embed`: sentences as vectors, or pairs of them by how close their meanings are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Turn sentences into vectors, one a line, or rank pairs of sentences.

Takes MiniLM and other encoders, as sentence-transformers saves them too: its files say how tokens are
pooled and whether vectors have length 1. Without them, the mean is taken and normalised.

Vectors go to standard output as lines of JSON, or into a file: .npy holds one array of (lines, width)
float32. With --pairs a line holds two sentences with a tab between them; out come their cosines and the
pairs, the closest first.

examples:
  pymodel embed --model all-MiniLM-L6-v2 --input sentences.txt --out vectors.npy
  echo "A cat sleeps." | pymodel embed --model all-MiniLM-L6-v2
  pymodel embed --model all-MiniLM-L6-v2 --input pairs.tsv --pairs
"""


@dataclass
class EmbedOptions:
    """What `pymodel embed` is told."""

    model: str
    """Model folder: config.json, model.safetensors and a tokenizer; or a repository of the hub."""
    input: str = "-"
    """Text file with a sentence on each line; - reads standard input."""
    out: str | None = None
    """File to write, .npy or .jsonl; by default standard output."""
    pairs: bool = False
    """Lines are pairs of sentences with a tab between them; rank them by cosine."""
    batch_size: int = 32
    """Sentences that the model sees at once."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU if there is one that this build can use."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the weights; by default as they are stored."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(EmbedOptions, "embed", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_embed import embed

    embed(options)
