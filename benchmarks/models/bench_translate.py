"""Generation with encoder-decoders of the sizes of T5-small and BART-base, greedy and with beams, beside
transformers'."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pymodel as pm
from benchmarks.harness import OURS, Case, Contender, Contest, agree
from benchmarks.settings import Settings
from pymodel.models import AutoModelForSeq2SeqLM, BartConfig, T5Config

SOURCE, NEW = 48, 24  # tokens
QUICK = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 4096}
BART_BASE = {
    "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072, "encoder_attention_heads": 12, "decoder_attention_heads": 12,
}  # fmt: skip


def cases(settings: Settings) -> Iterator[Case]:
    """Random weights: what the text says does not matter here."""
    config = T5Config(**QUICK) if settings.quick else T5Config()
    for dtype in settings.chosen("float32", "bfloat16"):
        for batch, beams in ((1, 1), (8, 1), (4, 4)):
            yield translation(settings, config, dtype, batch, beams)
        if not settings.quick:
            yield translation(settings, BartConfig(**BART_BASE), dtype, 1, 1)


def translation(
    settings: Settings, config: T5Config | BartConfig, dtype: str, batch: int, beams: int
) -> Case:
    """The source is read once; every new token reads the decoder's weights once for all rows."""
    how = "greedy" if beams == 1 else f"{beams} beams"
    size = f"{config.model_type} {config.num_hidden_layers} x {config.d_model}"
    title = f"translate {size} {dtype}, {batch} x {SOURCE} + {NEW} tokens, {how}"
    return Case(
        title, lambda: contest(settings, title, config, dtype, batch, beams), batch * NEW, "tokens",
        bar=1.5, dtype=dtype, peers=("transformers",), seconds=0.3,
    )  # fmt: skip


def contest(
    settings: Settings, title: str, config: T5Config | BartConfig, dtype: str, batch: int, beams: int
) -> Contest:
    """In float32 the tokens must agree; in bfloat16 near ties fall either way."""
    ids = np.random.default_rng(0).integers(3, config.vocab_size, (batch, SOURCE))
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "num_beams": beams, "do_sample": False}
    pm.manual_seed(0)
    theirs: Any = None
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
        ours = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype)
        if "transformers" in settings.peers:
            from benchmarks.peers import torch_seq2seq

            theirs = torch_seq2seq.load(Path(folder), dtype)

    def generate() -> list[np.ndarray]:
        return [ours.generate(ids, **options)]

    contenders: dict[str, Contender] = {OURS: generate}
    if theirs is not None:
        contenders["transformers"] = torch_seq2seq.generation(theirs, ids, options)

    def check() -> None:
        (tokens,) = generate()
        agree([*tokens.shape], [batch, 1 + NEW], 0.0, f"{title}, shape")
        if theirs is not None and dtype == "float32":
            agree(tokens, contenders["transformers"]()[0], 0.0, f"{title}, tokens")

    return Contest(contenders, check)
