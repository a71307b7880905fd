"""A whole training step of GPT-2 beside torch: eager, with SDPA, and compiled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import pymodel as pm
from benchmarks.gpu.kernels import Place
from benchmarks.harness import Case, Contest, agree
from pymodel.models import GPT2LMHeadModel


def cases(place: Place) -> Iterator[Case]:
    """GPT-2 124M in bfloat16: one case a way of running torch."""
    for way in ("eager", "sdpa", "compile"):
        if way == "compile" and place.shrink > 1:
            continue  # compiling takes longer than the whole rehearsal
        yield training(place, way)


def training(place: Place, way: str) -> Case:
    """8 x 1024 tokens: forward, backward, clipping and AdamW, in bfloat16 with float32 masters for us
    and autocast over float32 weights for torch, as each library's users do it."""
    import transformers

    batch, length = (8, 1024) if place.shrink == 1 else (2, 32)
    sizes: dict[str, Any] = {}
    if place.shrink > 1:
        sizes = {
            "n_layer": 2,
            "n_head": 2,
            "n_embd": 32,
            "vocab_size": 301,
            "eos_token_id": 0,
            "bos_token_id": 0,
        }
    config = transformers.GPT2Config(
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        attn_implementation="eager" if way == "eager" else "sdpa", **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).train()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = GPT2LMHeadModel.from_pretrained(folder, dtype="bfloat16", device=place.our_device)
    ours.train()
    theirs.to(place.torch_device)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (batch, length))
    contenders = {
        "pymodel": our_step(ours, tokens, place),
        f"torch {way}": their_step(torch.compile(theirs) if way == "compile" else theirs, tokens, place),
    }

    def check() -> None:
        losses = [[step() for step in contenders.values()] for _ in range(3)]
        agree([pair[0] for pair in losses], [pair[1] for pair in losses], 2e-2, "training loss")

    title = f"GPT-2 124M step, {batch} x {length}, torch {way}"
    return Case(title, lambda: Contest(contenders, check), batch * length, "tokens")


def our_step(model: GPT2LMHeadModel, tokens: np.ndarray, place: Place) -> Callable[[], float]:
    """One training step, which returns its loss."""
    batch = pm.tensor(tokens, device=place.our_device)
    optimizer = pm.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)

    def step() -> float:
        loss = model(batch, labels=batch).loss
        loss.backward()
        pm.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step


def their_step(model: Any, tokens: np.ndarray, place: Place) -> Callable[[], float]:
    """The same in torch."""
    batch = torch.from_numpy(tokens).to(place.torch_device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    kind = place.torch_device.split(":")[0]

    def step() -> float:
        with torch.autocast(kind, dtype=torch.bfloat16):
            loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step
