"""`pymodel quickstart`: a first model, in about two minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymodel.cli.options import parse

DESCRIPTION = """Train a small GPT on the source code of Python's standard library, in about two minutes.

Nothing is downloaded: every Python carries this text. A share of the files is held out; the model
is judged by the bits it needs for each byte of them, beside what gzip -9 needs. Shows what the model
writes before and after, and leaves a model folder with metrics.jsonl and loss.png.

examples:
  pymodel quickstart
  pymodel quickstart --out first --seconds 600      longer, and better
  pymodel quickstart --max-steps 50                 a short look
"""


@dataclass
class QuickstartOptions:
    """What `pymodel quickstart` is told."""

    out: str = "quickstart"
    """Folder for the model and its metrics; made when missing."""
    seconds: int = 120
    """About how long to train on 2 cores. Sets the number of steps, not a clock: results do not depend
    on the machine's speed."""
    max_steps: int | None = None
    """Number of steps, instead of seconds."""
    seed: int = 42
    """Same seed, same model to the bit."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(QuickstartOptions, "quickstart", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_quickstart import quickstart

    quickstart(options)
