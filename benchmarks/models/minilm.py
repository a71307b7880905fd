"""MiniLM-size encoders of the benchmarks, ours and, with the same weights, transformers'."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pymodel as pm
from pymodel.models import BertConfig, PretrainedModel


@dataclass(frozen=True)
class EncoderSizes:
    """Layers and width of an encoder, its heads, the width inside its networks, and its vocabulary."""

    name: str
    layers: int
    width: int
    heads: int
    inner: int
    vocab_size: int

    def flop(self, lengths: np.ndarray) -> float:
        """Of a forward over texts of these lengths: products with weights, and attention's."""
        weights = self.layers * (4.0 * self.width**2 + 2.0 * self.width * self.inner)
        tokens, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
        return 2.0 * weights * tokens + 4.0 * self.layers * self.width * squares

    def config(self) -> BertConfig:
        """No dropout, since no two libraries draw the same."""
        return BertConfig(
            num_hidden_layers=self.layers, hidden_size=self.width, num_attention_heads=self.heads,
            intermediate_size=self.inner, vocab_size=self.vocab_size,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip


MINILM = EncoderSizes("MiniLM-L6", 6, 384, 12, 1536, 30522)


def shared_weights(
    sizes: EncoderSizes, kind: type[PretrainedModel], dtype: str, others: Callable[[Path], Any] | None
) -> tuple[Any, Any]:
    """Our model, and what `others` reads from a folder with its weights (None without `others`)."""
    pm.manual_seed(0)
    exact = kind(sizes.config())
    with tempfile.TemporaryDirectory() as folder:
        exact.save_pretrained(folder)
        ours = kind.from_pretrained(folder, dtype=dtype)
        return ours, None if others is None else others(Path(folder))


def mixed_lengths(count: int, longest: int) -> np.ndarray:
    """(count,) lengths as those of sentences: most of them short, some long, one the longest."""
    lengths = np.random.default_rng(0).lognormal(np.log(longest / 5), 0.6, count).astype(np.int64)
    lengths = np.clip(lengths, 3, longest)
    lengths[0] = longest
    return lengths
