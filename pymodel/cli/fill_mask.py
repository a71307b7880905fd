"""`pymodel fill-mask`: the words that belong into the gaps of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Guess the words that are missing from a text, by an encoder such as BERT.

A gap is written as the model's own mask token: [MASK] for BERT and DistilBERT, <mask> for RoBERTa. Every
gap is guessed by itself, from the text around it.

examples:
  pymodel fill-mask --model bert-base-uncased --text "Paris is the [MASK] of France."
  pymodel fill-mask --model roberta-base --text "A <mask> sat on the <mask>." --top-k 3
  pymodel fill-mask --model bert-base-uncased --text "Time is [MASK]." --json
"""


@dataclass
class FillMaskOptions:
    """What `pymodel fill-mask` is told."""

    model: str
    """Model folder: config.json, model.safetensors and a tokenizer; or a repository of the hub."""
    text: str
    """Text with one gap or more; - reads standard input."""
    top_k: int = 5
    """Words to show for each gap."""
    json: bool = False
    """Print a line of JSON for each gap: a list of score, token, token_str and sequence."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU if there is one that this build can use."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the weights; by default as they are stored."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(FillMaskOptions, "fill-mask", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_fill_mask import fill

    fill(options)
