"""The GPT-2 models of the benchmarks, ours and, with the same weights, transformers'."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pymodel as pm
from pymodel.models import GPT2Config, GPT2LMHeadModel


@dataclass(frozen=True)
class Sizes:
    """Layers and width of a model, its heads, and its vocabulary."""

    name: str
    n_layer: int
    n_embd: int
    n_head: int
    vocab_size: int

    @property
    def weights(self) -> float:
        """Numbers that each token is multiplied with, the output head among them."""
        return float(12 * self.n_layer * self.n_embd**2 + self.vocab_size * self.n_embd)

    def training_flop(self, batch: int, length: int) -> float:
        """Of a step: forward and twice as much for backward, with causal attention's products."""
        attention = self.n_layer * self.n_embd * length
        return 3.0 * batch * length * (2.0 * self.weights + 2.0 * attention)

    def config(self) -> GPT2Config:
        """No dropout, since no two libraries draw the same."""
        return GPT2Config(
            n_layer=self.n_layer, n_embd=self.n_embd, n_head=self.n_head, vocab_size=self.vocab_size,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip


GPT2_124M = Sizes("GPT-2 124M", 12, 768, 12, 50257)
SMALL = Sizes("4 x 128 GPT", 4, 128, 4, 4096)
MEDIUM = Sizes("6 x 384 GPT", 6, 384, 6, 4096)


def shared_weights(
    sizes: Sizes, dtype: str, others: Callable[[Path], Any] | None
) -> tuple[GPT2LMHeadModel, Any]:
    """Our model, and what `others` reads from a folder with its weights (None without `others`)."""
    pm.manual_seed(0)
    exact = GPT2LMHeadModel(sizes.config())
    with tempfile.TemporaryDirectory() as folder:
        exact.save_pretrained(folder)
        ours = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype)
        return ours, None if others is None else others(Path(folder))


def random_tokens(sizes: Sizes, batch: int, length: int) -> np.ndarray:
    """(batch, length) token ids."""
    return np.random.default_rng(0).integers(0, sizes.vocab_size, (batch, length))
