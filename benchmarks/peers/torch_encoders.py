"""transformers' side of the encoder cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.peers.torch_ops import DTYPES

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load_bare(folder: Path, dtype: str) -> Any:
    """An encoder without a head, attention by torch's SDPA."""
    kind = transformers.AutoModel
    return kind.from_pretrained(folder, dtype=DTYPES[dtype], attn_implementation="sdpa").eval()


def load_classifier(folder: Path) -> Any:
    """A classifier of texts in float32, for autocast to compute with."""
    kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def states(model: Any, ids: np.ndarray, mask: np.ndarray) -> Callable[[], list[torch.Tensor]]:
    """A forward over (batch, sequence) ids with a mask; padding is computed too."""
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def run() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [model(**inputs).last_hidden_state]

    return run
