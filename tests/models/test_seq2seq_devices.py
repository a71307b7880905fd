"""Encoder-decoders train and generate on the emulated GPU as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_training import one_thread

import pymodel as pm
from pymodel import _core
from pymodel.models import AutoConfig, AutoModelForSeq2SeqLM

__all__ = ["one_thread"]
HAS_EMULATOR = hasattr(_core, "simt_set_schedule")
SHAPE: dict[str, Any] = {
    "vocab_size": 41,
    "max_position_embeddings": 16,
    "d_model": 20,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 27,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 27,
    "pad_token_id": 0,
}
T5_SHAPE: dict[str, Any] = {
    "vocab_size": 41,
    "d_model": 20,
    "d_kv": 6,
    "d_ff": 27,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bart": SHAPE,
    "marian": {**SHAPE, "decoder_start_token_id": 0},
    "t5": T5_SHAPE,
    "transformer": {**SHAPE, "norm_first": True},
}


def trained(model_type: str, device: str, dtype: str = "float32") -> tuple[Any, list[float]]:
    """A model after three steps with dropout on padded batches, and its losses."""
    pm.manual_seed(7)
    config = AutoConfig.for_model(model_type, **FAMILIES[model_type])
    model = AutoModelForSeq2SeqLM.from_config(config, dtype, device).train()
    optimizer = pm.optim.SGD(model.parameters(), lr=0.1)  # no step for noise alone, as AdamW's
    rng = np.random.default_rng(1)
    mask = (np.arange(9) < np.array([[9], [4]])).astype(np.int64)
    losses = []
    for _ in range(3):
        source, labels = rng.integers(3, 41, (2, 9)), rng.integers(3, 41, (2, 6))
        labels[1, 4:] = -100
        loss = model(source, mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), losses


@pytest.mark.skipif(not HAS_EMULATOR, reason="built without the emulator (PYMODEL_SIMT=OFF)")
@pytest.mark.parametrize("model_type", FAMILIES)
def test_seq2seq_trains_and_generates_on_the_emulator_as_on_the_cpu(model_type: str) -> None:
    cpu, cpu_losses = trained(model_type, "cpu")
    simt, simt_losses = trained(model_type, "simt")
    np.testing.assert_allclose(simt_losses, cpu_losses, rtol=2e-6)
    for (name, expected), found in zip(cpu.named_parameters(), simt.parameters(), strict=True):
        np.testing.assert_allclose(
            found.to("cpu").numpy(), expected.numpy(), rtol=1e-4, atol=1e-6, err_msg=name
        )
    options: dict[str, Any] = {"max_new_tokens": 4, "no_repeat_ngram_size": 1}
    options["attention_mask"] = [[1, 1, 1], [1, 0, 0]]
    for beams in (1, 2):
        tokens = [m.generate([[5, 6, 7], [8, 0, 0]], num_beams=beams, **options) for m in (cpu, simt)]
        np.testing.assert_array_equal(tokens[1], tokens[0])


@pytest.mark.skipif(not HAS_EMULATOR, reason="built without the emulator (PYMODEL_SIMT=OFF)")
@pytest.mark.parametrize("model_type", ["bart", "t5"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_seq2seq_trains_in_low_precision_on_the_emulator(model_type: str, dtype: str) -> None:
    _, cpu_losses = trained(model_type, "cpu", dtype)
    _, simt_losses = trained(model_type, "simt", dtype)
    # Both round every activation, at other places of their sums.
    np.testing.assert_allclose(simt_losses, cpu_losses, rtol=1e-2)
