"""`pymodel classify`: classes of texts, or of the names in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Tell the classes of texts, by a trained classifier.

A model for texts gives every text's classes with their probabilities, the likeliest first. A model for
tokens, such as an entity recogniser, gives the stretches of text that it found: class, probability,
characters from and to, and the words.

examples:
  pymodel classify --model sentiment --text "What a wonderful film."
  pymodel classify --model sentiment --input reviews.txt --top-k 1
  pymodel classify --model ner --text "Angela Merkel was born in Hamburg." --json
  pymodel classify --model entailment --input pairs.tsv --pairs
"""


@dataclass
class ClassifyOptions:
    """What `pymodel classify` is told."""

    model: str
    """Model folder: config.json, model.safetensors and a tokenizer; or a repository of the hub."""
    text: str | None = None
    """The text itself; a tab parts it with --pairs."""
    input: str | None = None
    """Text file with a text on each line; - reads standard input, and so does leaving out both."""
    pairs: bool = False
    """Texts are pairs with a tab between them, for models of pairs."""
    top_k: int | None = None
    """Classes to show of each text; by default all."""
    json: bool = False
    """Print a line of JSON for each text."""
    batch_size: int = 32
    """Texts that the model sees at once."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU if there is one that this build can use."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the weights; by default as they are stored."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(ClassifyOptions, "classify", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_classify import classify

    classify(options)
