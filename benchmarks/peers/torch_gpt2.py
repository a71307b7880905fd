"""torch's and transformers' side of the model cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.peers.torch_ops import DTYPES

transformers.logging.set_verbosity_error()  # it comments on small vocabularies, and draws bars
transformers.logging.disable_progress_bar()


def load(folder: Path, dtype: str = "float32") -> Any:
    """GPT-2 with a language model's head, attention by torch's SDPA."""
    return transformers.GPT2LMHeadModel.from_pretrained(
        folder, dtype=DTYPES[dtype], attn_implementation="sdpa"
    )


def training_step(
    model: Any, tokens: np.ndarray, dtype: str, options: dict[str, Any], labels: np.ndarray | None = None
) -> Callable[[], list[float]]:
    """Forward, backward, clipping and fused AdamW; 16-bit dtypes by autocast over float32 weights. The
    tokens are their own labels unless others are given."""
    model.train()
    batch = torch.from_numpy(tokens)
    targets = batch if labels is None else torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **options)

    def step() -> list[float]:
        with torch.autocast("cpu", dtype=DTYPES[dtype], enabled=dtype != "float32"):
            loss = model(batch, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return [loss.item()]

    return step


def generation(model: Any, prompt: np.ndarray, new_tokens: int) -> Callable[[], list[np.ndarray]]:
    """Greedy, with a cache of keys and values."""
    model.eval()
    ids = torch.from_numpy(prompt)
    options = transformers.GenerationConfig(
        max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, use_cache=True,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip

    def generate() -> list[np.ndarray]:
        with torch.inference_mode():
            return [
                model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=options).numpy()
            ]

    return generate


def logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """(batch, length, vocabulary) of a model, in float32."""
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(tokens)).logits.float().numpy())
