"""transformers' side of the encoder-decoder cases."""

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


def load(folder: Path, dtype: str = "float32") -> Any:
    """The encoder-decoder of a folder, with its head."""
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=DTYPES[dtype]).eval()


def generation(model: Any, source: np.ndarray, options: dict[str, Any]) -> Callable[[], list[np.ndarray]]:
    """With a cache of keys and values; options as of `generate`."""
    ids = torch.from_numpy(source)

    def generate() -> list[np.ndarray]:
        with torch.inference_mode():
            return [model.generate(ids, attention_mask=torch.ones_like(ids), **options).numpy()]

    return generate
