"""Llama, Mistral and Qwen2 against transformers: the same checkpoint, the same numbers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_models import CONFIGS, ROPE, in_float64, saved_model
from reference import Draws, assert_as_good_as_torch, to_float64

import pymodel as pm
from pymodel.models import AutoModel, AutoModelForCausalLM, KeyValueCache

BATCH, SEQUENCE, VOCAB = 3, 17, 97


def random_ids(shape: tuple[int, ...] = (BATCH, SEQUENCE), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, size=shape)


def labels_with_holes(ids: np.ndarray) -> np.ndarray:
    labels = ids.copy()
    labels[0, 3:6] = -100
    labels[:, -1] = -100
    return labels


def results(models: list[Any], ids: np.ndarray, **arguments: Any) -> list[Any]:
    """The outputs of models of transformers."""
    tensors = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
    return [model(torch.from_numpy(ids), **tensors) for model in models]


def check(ours: Any, expected: list[Any], what: str, dtype: str = "float32") -> None:
    """Ours against those of transformers in the same dtype and in float64."""
    same, exact = expected
    assert_as_good_as_torch(ours, same, exact, dtype, what)


def check_training(ours: Any, theirs: Any, exact: Any, draws: int, dtype: str = "float32") -> None:
    """Logits, loss and gradients of several draws of tokens."""
    found = Draws()
    for seed in range(draws):
        ids = random_ids(seed=seed)
        labels = labels_with_holes(ids)
        output = ours(ids, labels=labels)
        output.loss.backward()
        for model in (theirs, exact):
            model.zero_grad()
        expected = results([theirs, exact], ids, labels=labels)
        for e in expected:
            e.loss.backward()
        found.add("logits", output.logits, *(e.logits for e in expected))
        found.add("loss", output.loss, *(e.loss for e in expected))
        same, truth = dict(theirs.named_parameters()), dict(exact.named_parameters())
        assert [name for name, _ in ours.named_parameters()] == list(same)
        for name, parameter in ours.named_parameters():
            found.add(name, parameter.grad, same[name].grad, truth[name].grad)
            parameter.grad = None
    found.check(dtype)


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_logits_loss_and_gradients_equal_transformers(tmp_path: Path, name: str):
    theirs = saved_model(tmp_path, name)
    check_training(AutoModelForCausalLM.from_pretrained(tmp_path), theirs, in_float64(theirs), draws=7)


@pytest.mark.parametrize("scaling", ROPE)
def test_llama_scaled_positions_equal_transformers(tmp_path: Path, scaling: str):
    theirs = saved_model(tmp_path, rope_scaling=dict(ROPE[scaling]), rope_theta=300.0)
    check_training(AutoModelForCausalLM.from_pretrained(tmp_path), theirs, in_float64(theirs), draws=5)
    # The same in the spelling of transformers 4.
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    assert "rope_parameters" in content
    ids = random_ids()
    before = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits.numpy()
    del content["rope_parameters"]
    path.write_text(json.dumps(content | {"rope_theta": 300.0, "rope_scaling": ROPE[scaling]}))
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(ids).logits.numpy(), before)
    # What we write, transformers reads.
    again.save_pretrained(tmp_path / "ours")
    back = type(theirs).from_pretrained(tmp_path / "ours").eval()
    np.testing.assert_array_equal(
        back(torch.from_numpy(ids)).logits.detach(), results([theirs], ids)[0].logits.detach()
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_five_adamw_steps_equal_torch(tmp_path: Path, name: str):
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    first = saved_model(tmp_path, name)
    triple = first, in_float64(first), AutoModelForCausalLM.from_pretrained(tmp_path)
    draws = Draws()
    for draw in range(5):
        theirs, _, ours = copy.deepcopy(triple)
        exact = in_float64(theirs)
        optimizer = pm.optim.AdamW(ours.train().parameters(), **options)
        others = {model: torch.optim.AdamW(model.parameters(), **options) for model in (theirs, exact)}
        for step in range(5):
            ids = random_ids(seed=10 * draw + step)
            ours(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            for model, other in others.items():
                model(torch.from_numpy(ids), labels=torch.from_numpy(ids)).loss.backward()
                other.step()
                other.zero_grad()
        same, truth = dict(theirs.named_parameters()), dict(exact.named_parameters())
        for parameter_name, parameter in ours.named_parameters():
            draws.add(parameter_name, parameter, same[parameter_name], truth[parameter_name])
    draws.check()


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_saved_by_us_is_read_by_transformers(tmp_path: Path, name: str):
    theirs = saved_model(tmp_path / "theirs", name)
    AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    back = type(theirs).from_pretrained(tmp_path / "ours").eval()
    ids = random_ids()
    same, expected = results([back, theirs], ids)
    np.testing.assert_array_equal(same.logits.detach(), expected.logits.detach())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_llama_low_precision_equals_transformers(tmp_path: Path, name: str, dtype: str):
    theirs = saved_model(tmp_path, name)
    exact = in_float64(theirs)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    theirs = theirs.to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter, rounded in zip(exact.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(rounded.double())
    check_training(ours, theirs, exact, 5, dtype)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize("with_labels", [False, True])
def test_llama_attention_mask_equals_transformers(tmp_path: Path, name: str, side: str, with_labels: bool):
    theirs = saved_model(tmp_path, name)
    exact, ours = in_float64(theirs), AutoModelForCausalLM.from_pretrained(tmp_path)
    mask = np.arange(SEQUENCE) < np.array([SEQUENCE, 11, 1])[:, None]
    if side == "left":
        mask = mask[:, ::-1].copy()
    if side == "holes":
        mask[0, 4:7] = False
    given = mask.astype(np.int64)
    positions = np.maximum(given.cumsum(axis=1) - 1, 0)
    draws = Draws()
    for seed in range(7):
        ids = random_ids(seed=seed)
        labels = np.where(mask, ids, -100) if with_labels else None
        arguments = {"attention_mask": given, "labels": labels, "position_ids": positions}
        output, expected = ours(ids, **arguments), results([theirs, exact], ids, **arguments)
        draws.add("logits", *(to_float64(o.logits)[mask] for o in (output, *expected)))
        if not with_labels:
            continue
        draws.add("loss", *(o.loss for o in (output, *expected)))
        for model, o in zip((ours, theirs, exact), (output, *expected), strict=True):
            model.zero_grad()
            o.loss.backward()
        parameters = [dict(model.named_parameters()) for model in (ours, theirs, exact)]
        for parameter_name in parameters[0]:
            draws.add(parameter_name, *(model[parameter_name].grad for model in parameters))
    draws.check()


@pytest.mark.parametrize("pieces", [(17,), (1,) * 17, (5, 1, 7, 4)])
@pytest.mark.parametrize("name", CONFIGS)
def test_llama_cache_gives_the_logits_of_the_whole_sequence(
    tmp_path: Path, name: str, pieces: tuple[int, ...]
):
    theirs = saved_model(tmp_path, name)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = random_ids()
    cache: KeyValueCache | None = None
    logits, start = [], 0
    for piece in pieces:
        output = ours(ids[:, start : start + piece], past_key_values=cache, use_cache=True)
        cache, start = output.past_key_values, start + piece
        logits.append(output.logits.numpy())
    expected = results([theirs, in_float64(theirs)], ids)
    check(np.concatenate(logits, axis=1), [e.logits for e in expected], "logits")


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_llama_hidden_states_and_attentions_equal_transformers(tmp_path: Path, name: str):
    theirs = saved_model(tmp_path, name, attn_implementation="eager")
    exact, ours = in_float64(theirs), AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = random_ids()
    output = ours(ids, output_hidden_states=True, output_attentions=True)
    expected = results([theirs, exact], ids, output_hidden_states=True, output_attentions=True)
    for kind in ("hidden_states", "attentions"):
        values = [getattr(o, kind) for o in (output, *expected)]
        assert len({len(v) for v in values}) == 1
        for found, *of_theirs in zip(*values, strict=True):
            check(found, of_theirs, kind)
    bare = AutoModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        bare(ids).last_hidden_state.numpy(), ours(ids, output_hidden_states=True).hidden_states[-1].numpy()
    )
