"""`pymodel generate`: write text with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Write text with a trained model, shown as it comes.

Tokens are drawn by their probability, after temperature, top-k, top-p and min-p took away unlikely
ones; --greedy takes the most likely one every time.

examples:
  pymodel generate --model quickstart --prompt "def main(" --max-new-tokens 200
  pymodel generate --model model --prompt "It was" --temperature 0.7 --top-p 0.9 --seed 1
  pymodel generate --model model --prompt "Q: why?" --stop "Q:" --greedy
  cat letter.txt | pymodel generate --model model --prompt -        prompt from standard input
"""


@dataclass
class GenerateOptions:
    """What `pymodel generate` is told."""

    model: str
    """Model folder: config.json, model.safetensors and tokenizer.json; a checkpoint-N folder is one too."""
    prompt: str = ""
    """Text to go on from; - reads standard input; without it the model begins a new text."""
    config: str | None = None
    """YAML file with options by the names of these flags; flags override it."""
    max_new_tokens: int = 100
    """Tokens to write at most."""
    greedy: bool = False
    """Take the most likely token every time; the options below up to seed then play no part."""
    temperature: float = 1.0
    """Below 1 safer, above 1 wilder."""
    top_k: int = 50
    """Draw from this many most likely tokens; 0 for all."""
    top_p: float = 1.0
    """Draw from the most likely tokens that together have this probability."""
    min_p: float = 0.0
    """Draw from tokens at least this many times as likely as the most likely one."""
    seed: int | None = None
    """Same seed, same text; by default another text each time."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that are already there less likely."""
    stop: tuple[str, ...] = ()
    """Stop where one of these texts appears."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU if there is one that this build can use."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the weights; by default as they are stored."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(GenerateOptions, "generate", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_generate import write

    write(options)
