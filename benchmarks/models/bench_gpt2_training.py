"""A whole training step of GPT-2 against torch and transformers: forward, backward, clipping, AdamW."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch
import transformers

import pymodel as pm
from benchmarks.harness import Case, agree
from pymodel.models import GPT2LMHeadModel


def cases() -> Iterator[Case]:
    """GPT-2 124M at the batch of the project's bar, and the small model of the quickstart's kind."""
    yield training("124M", 4, 64, bar=0.7, n_layer=12, n_head=12, n_embd=768, vocab_size=50257)
    yield training("4 x 128", 12, 64, bar=1.0, n_layer=4, n_head=4, n_embd=128, vocab_size=4096)


def training(name: str, batch: int, length: int, bar: float, **sizes: int) -> Case:
    """float32, no dropout, random tokens, random weights shared through a folder on disk."""
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **sizes)
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).train()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = GPT2LMHeadModel.from_pretrained(folder)
    ours.train()
    tokens = np.random.default_rng(0).integers(0, sizes["vocab_size"], (batch, length))
    torch_tokens = torch.from_numpy(tokens)
    ours_optimizer = pm.optim.AdamW(ours.parameters(), lr=1e-4, weight_decay=0.1)
    torch_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def ours_step() -> float:
        loss = ours(tokens, labels=tokens).loss
        loss.backward()
        pm.optim.clip_grad_norm_(ours.parameters(), 1.0)
        ours_optimizer.step()
        ours_optimizer.zero_grad()
        return loss.item()

    def torch_step() -> float:
        loss = theirs(torch_tokens, labels=torch_tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        torch_optimizer.step()
        torch_optimizer.zero_grad()
        return loss.item()

    def check() -> None:
        for _ in range(3):
            agree([ours_step()], [torch_step()], 1e-4, "training loss")

    contenders = {"pymodel": ours_step, "torch": torch_step}
    title = f"GPT-2 {name} training step, {batch} x {length}, float32"
    return Case(title, contenders, batch * length, "tokens", check, bar, seconds=1.0)
