"""`pymodel convert`: a model folder in another dtype or in other shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Rewrite a model folder in another dtype or in files of another size.

The new folder is one of Hugging Face's as the old one is: tokenizer and defaults for generating go along.
Tensors pass through one at a time, so memory holds one of them; every family will do.

examples:
  pymodel convert --model model --out model-bf16 --dtype bfloat16
  pymodel convert --model org/name --out sharded --max-shard-size 500MB
  pymodel convert --model sharded --out whole --max-shard-size 100GB
"""


@dataclass
class ConvertOptions:
    """What `pymodel convert` is told."""

    model: str
    """Model folder, or a repository of the hub, with safetensors."""
    out: str
    """Another folder, made when missing; a model in it is replaced."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the weights; by default as stored."""
    max_shard_size: str = "5GB"
    """Of one file, in bytes or as 500MB or 2GiB."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(ConvertOptions, "convert", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_convert import convert

    convert(options)
