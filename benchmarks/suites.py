"""The suites by name; `pymodel bench` and `pytest benchmarks/` run the same ones."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.harness import Case, Reading
from benchmarks.settings import Settings


class Suite(NamedTuple):
    """A module with `cases(settings)`, which yields `Case`s and `Reading`s."""

    module: str
    text: str
    default: bool = True  # whether it runs unless others are named


SUITES = {
    "gemm": Suite("ops.bench_gemm", "products of GPT-2 and BERT training, and of decoding"),
    "attention": Suite("ops.bench_attention", "forward and backward, causal and padded"),
    "layer_norm": Suite("ops.bench_layer_norm", "forward and backward"),
    "rms_norm": Suite("ops.bench_rms_norm", "forward and backward"),
    "gated_activation": Suite("ops.bench_gated_activation", "SwiGLU's product, and its gradients"),
    "rotary": Suite("ops.bench_rotary", "queries turned by their positions, and the gradient"),
    "softmax": Suite("ops.bench_softmax", "forward and backward"),
    "cross_entropy": Suite("ops.bench_cross_entropy", "forward and backward over a vocabulary"),
    "adamw": Suite("ops.bench_adamw", "a step over all tensors of a model"),
    "embedding": Suite("ops.bench_embedding", "rows of a table, and the table's gradient"),
    "elementwise": Suite("ops.bench_elementwise", "a residual sum and GELU"),
    "train": Suite("models.bench_train", "whole GPT-2 training steps"),
    "encode": Suite("models.bench_encode", "sentences of mixed length, and a classifier's training steps"),
    "generate": Suite("models.bench_generate", "one prompt, token by token"),
    "translate": Suite("models.bench_translate", "an encoder-decoder, greedy and with beams"),
    "memory": Suite("models.bench_memory", "peak memory of a GPT-2 124M training step"),
    "overhead": Suite("models.bench_overhead", "what a call costs outside its kernel"),
    "limits": Suite("models.bench_limits", "import time, size, memory asked for once warm"),
    "quickstart": Suite("models.bench_quickstart", "bits per byte against gzip, in minutes", default=False),
}


def cases_of(suite: str, settings: Settings) -> Iterator[Case | Reading]:
    """What a suite has to measure; nothing is allocated yet."""
    module = importlib.import_module(f"benchmarks.{SUITES[suite].module}")
    cases: Iterator[Case | Reading] = module.cases(settings)
    return cases
