"""`pymodel generate`: write text with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Write text with a trained model, shown as it comes.

A decoder goes on from the prompt: tokens are drawn by their probability, after temperature, top-k, top-p
and min-p took away unlikely ones; --greedy takes the most likely one every time. An encoder-decoder
translates or sums up the prompt, as its generation_config.json says, often with beams. --num-beams
follows several texts at once and shows the best one at its end.

examples:
  pymodel generate --model quickstart --prompt "def main(" --max-new-tokens 200
  pymodel generate --model model --prompt "It was" --temperature 0.7 --top-p 0.9 --seed 1
  pymodel generate --model model --prompt "Q: why?" --stop "Q:" --greedy
  pymodel generate --model org/chat-model --chat --prompt "Why is the sky blue?"
  pymodel generate --model org/translator --prompt "I love cats." --num-beams 4
  cat letter.txt | pymodel generate --model model --prompt -        prompt from standard input
"""


@dataclass
class GenerateOptions:
    """What `pymodel generate` is told."""

    model: str
    """Model folder: config.json, model.safetensors and a tokenizer; a checkpoint-N folder is one too. Or a
    repository of the hub."""
    prompt: str = ""
    """Text to go on from; - reads standard input; without it the model begins a new text."""
    config: str | None = None
    """YAML file with options by the names of these flags; flags override it."""
    max_new_tokens: int | None = None
    """Tokens to write at most; by default as the model's folder says, else 100."""
    min_new_tokens: int | None = None
    """Tokens to write at least."""
    chat: bool = False
    """Put the prompt as a question, in the form that a chat model knows; only the answer is shown."""
    greedy: bool = False
    """Draw nothing: take the most likely token every time, or the best beam."""
    num_beams: int | None = None
    """Texts to follow at once; nothing is drawn then unless one of the options below up to seed is given."""
    temperature: float | None = None
    """Below 1 safer, above 1 wilder."""
    top_k: int | None = None
    """Draw from this many most likely tokens, by default 50; 0 for all."""
    top_p: float | None = None
    """Draw from the most likely tokens that together have this probability."""
    min_p: float | None = None
    """Draw from tokens at least this many times as likely as the most likely one."""
    seed: int | None = None
    """Same seed, same text; by default another text each time."""
    length_penalty: float | None = None
    """Of beams: above 0 favours long texts, below 0 short ones."""
    repetition_penalty: float | None = None
    """Above 1 makes tokens that are already there less likely."""
    no_repeat_ngram_size: int | None = None
    """No run of this many tokens comes twice."""
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
