"""What Llama, Mistral and Qwen2 write, token for token as transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_models import CONFIGS, ROPE, saved_model

import pymodel as pm
from pymodel import _core
from pymodel.models import AutoModelForCausalLM

HAS_EMULATOR = hasattr(_core, "simt_set_schedule")


def prompts(lengths: list[int]) -> list[list[int]]:
    return [np.random.default_rng(n).integers(1, 97, n).tolist() for n in lengths]


def continued(theirs: Any, prompt: list[int], count: int, **options: Any) -> list[int]:
    """By transformers, which goes on beyond max_position_embeddings."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
            **options,
        )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_greedy_tokens_equal_transformers(tmp_path: Path, name: str):
    """One at a time, and in a batch of unequal lengths, some beyond the window."""
    theirs = saved_model(tmp_path, name, max_position_embeddings=40)
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    texts = prompts([3, 11, 7])
    expected = [continued(theirs, text, 20) for text in texts]
    together = ours.generate(texts, max_new_tokens=20)[:, 11:]
    for text, wanted, found in zip(texts, expected, together, strict=True):
        alone = ours.generate([text], max_new_tokens=20)[0, len(text) :]
        assert alone.tolist() == wanted
        assert found[: len(wanted)].tolist() == wanted
    assert ours.generate([texts[1]], max_new_tokens=20, use_cache=False)[0, 11:].tolist() == expected[1]


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_llama_beams_equal_transformers(tmp_path: Path, name: str):
    theirs = saved_model(tmp_path, name, max_position_embeddings=40)
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    texts, options = prompts([3, 11, 7]), {"num_beams": 3, "length_penalty": 0.7, "no_repeat_ngram_size": 2}
    together = ours.generate(texts, max_new_tokens=9, **options)[:, 11:]
    for text, found in zip(texts, together, strict=True):
        wanted = continued(theirs, text, 9, **options)
        assert found[: len(wanted)].tolist() == wanted


@pytest.mark.parametrize("scaling", ROPE)
def test_llama_greedy_tokens_with_scaled_positions_equal_transformers(tmp_path: Path, scaling: str):
    """From within the trained length to beyond it; in a batch, each row by its own length."""
    theirs = saved_model(tmp_path, rope_scaling=dict(ROPE[scaling]), max_position_embeddings=16)
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path, max_position_embeddings=16)
    texts = prompts([4, 9, 14])
    limits = [16 - len(text) for text in texts]
    expected = [continued(theirs, text, limit) for text, limit in zip(texts, limits, strict=True)]
    together = ours.generate(texts, max_new_tokens=12)[:, 14:]
    for wanted, found in zip(expected, together, strict=True):
        assert found[: len(wanted)].tolist() == wanted


@pytest.mark.parametrize("scaling", ["dynamic", "longrope"])
def test_llama_rows_of_a_batch_are_turned_by_their_own_length(tmp_path: Path, scaling: str):
    saved_model(tmp_path, rope_scaling=dict(ROPE[scaling]), max_position_embeddings=9)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    rows = prompts([15, 4, 11])
    ids, mask = np.zeros((3, 15), np.int64), np.zeros((3, 15), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    output = model(ids, attention_mask=mask, use_cache=True)
    step = model(np.array([[5], [6], [7]]), past_key_values=output.past_key_values)
    for i, (row, new) in enumerate(zip(rows, (5, 6, 7), strict=True)):
        alone = model([row], use_cache=True)
        np.testing.assert_allclose(output.logits.numpy()[i, : len(row)], alone.logits.numpy()[0], atol=2e-5)
        after = model([[new]], past_key_values=alone.past_key_values).logits.numpy()[0]
        np.testing.assert_allclose(step.logits.numpy()[i], after, atol=2e-5)


@pytest.mark.skipif(not HAS_EMULATOR, reason="built without the emulator (PYMODEL_SIMT=OFF)")
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_llama_on_the_emulator_equals_the_cpu(tmp_path: Path, name: str):
    saved_model(tmp_path, name)
    ids = np.random.default_rng(3).integers(0, 97, (2, 9))
    outcomes = []
    for device in ("cpu", "simt"):
        model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, device=device)
        optimizer = pm.optim.AdamW(model.train().parameters(), lr=1e-3)
        for _ in range(2):
            output = model(ids, labels=ids)
            output.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        written = model.eval().generate([[5, 6, 7, 8], [9, 3]], max_new_tokens=4)
        outcomes.append((output.loss.item(), output.logits.numpy(), written.tolist()))
    (cpu_loss, cpu_logits, cpu_tokens), (loss, logits, tokens) = outcomes
    assert loss == pytest.approx(cpu_loss, rel=1e-5)
    np.testing.assert_allclose(logits, cpu_logits, rtol=1e-3, atol=2e-4)
    assert tokens == cpu_tokens
