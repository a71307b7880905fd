"""Configurations of Llama and its relatives, and rotary positions of part of a head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from llama_models import ROPE, config_of, in_float64, reference_model, saved_model
from reference import assert_as_good_as_torch
from safetensors.numpy import load_file, save_file

from pymodel.errors import ConfigError
from pymodel.models import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Qwen2Config,
)
from pymodel.models.rope import RotaryPositions
from pymodel.models.rope_scaling import RopeParameters

SMALL: dict[str, Any] = {
    "vocab_size": 19, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def test_llama_config_reads_both_spellings_of_positions():
    scaling = {"rope_type": "linear", "factor": 2.0}
    new = LlamaConfig(**SMALL, rope_parameters={"rope_theta": 5e5, **scaling})
    old = LlamaConfig(**SMALL, rope_theta=5e5, rope_scaling=scaling)
    assert new == old
    assert (new.rope_theta, new.rope_scaling) == (5e5, scaling)
    assert new.rope_parameters == {"rope_theta": 5e5, "partial_rotary_factor": 1.0, **scaling}
    default = LlamaConfig(**SMALL, rope_parameters={"rope_theta": 7.0, "rope_type": "default"})
    assert (default.rope_theta, default.rope_scaling) == (7.0, None)
    assert LlamaConfig(**SMALL, rope_parameters={"rope_theta": 7.0}) == default
    assert LlamaConfig(**SMALL, rope_parameters={"type": "linear", "factor": 2.0}).rope_scaling is not None
    assert LlamaConfig.from_dict(new.to_dict()) == new
    assert LlamaConfig.from_dict({**new.to_dict(), "rope_theta": 3.0}).rope_parameters["rope_theta"] == 3.0


def test_llama_changes_of_positions_count_in_either_spelling(tmp_path: Path):
    new = transformers.LlamaConfig(**SMALL, rope_parameters={"rope_theta": 5e5, **ROPE["linear"]})
    new.save_pretrained(tmp_path / "new")
    LlamaConfig(**SMALL, rope_theta=5e5, rope_scaling=ROPE["linear"]).save_pretrained(tmp_path / "old")
    for folder in ("new", "old"):
        unchanged = LlamaConfig.from_pretrained(tmp_path / folder)
        assert (unchanged.rope_theta, unchanged.rope_scaling) == (5e5, ROPE["linear"])
        for changes in (
            {"rope_theta": 9.0, "rope_scaling": ROPE["dynamic"]},
            {"rope_parameters": {"rope_theta": 9.0, **ROPE["dynamic"]}},
        ):
            changed = LlamaConfig.from_pretrained(tmp_path / folder, **changes)
            assert (changed.rope_theta, changed.rope_scaling) == (9.0, ROPE["dynamic"])
    assert LlamaConfig.from_pretrained(tmp_path / "new", rope_theta=9.0).rope_scaling == ROPE["linear"]


@pytest.mark.parametrize("scaling", ROPE)
def test_llama_frequencies_equal_transformers(scaling: str):
    theirs = reference_model(config_of("llama", rope_scaling=dict(ROPE[scaling]), rope_theta=77.0)).model
    ours = LlamaConfig.from_dict(theirs.config.to_dict()).rotary_positions()
    for length in (3, 41):
        positions = np.arange(length)
        rotation = ours(positions, length, "cpu")
        x = torch.zeros(1, dtype=torch.float64)
        exact = in_float64(theirs).rotary_emb(x, torch.from_numpy(positions)[None])
        same = theirs.rotary_emb(x.float(), torch.from_numpy(positions)[None])
        for found, expected, truth in zip((rotation.cos, rotation.sin), same, exact, strict=True):
            assert_as_good_as_torch(found, expected[0, :, :5], truth[0, :, :5], "float32", "table")


def test_llama_turns_part_of_a_head_like_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """transformers has it in other families only: here its Llama takes their function."""
    module = transformers.models.llama.modeling_llama

    def partly(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[Any, ...]:
        width = cos.shape[-1]
        turned = original(q[..., :width], k[..., :width], cos, sin)
        return tuple(torch.cat((a, b[..., width:]), dim=-1) for a, b in zip(turned, (q, k), strict=True))

    original = module.apply_rotary_pos_emb
    monkeypatch.setattr(module, "apply_rotary_pos_emb", partly)
    parameters = {"rope_type": "linear", "factor": 1.5, "partial_rotary_factor": 0.65}
    theirs = saved_model(tmp_path, rope_parameters={**parameters, "rope_theta": 100.0})
    ours = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert ours.config.partial_rotary_factor == 0.65
    ids = np.random.default_rng(1).integers(0, 97, (2, 13))
    same, exact = (model(torch.from_numpy(ids)).logits for model in (theirs, in_float64(theirs)))
    assert_as_good_as_torch(ours(ids).logits, same, exact, "float32", "logits")


def test_llama_defaults_are_those_of_transformers():
    for kind in (LlamaConfig, MistralConfig, Qwen2Config):
        theirs = getattr(transformers, kind.__name__)()
        ours = kind.from_dict(theirs.to_dict())
        fresh = kind()
        for name, value in fresh.to_dict().items():
            if name in ("sliding_window", "layer_types"):  # transformers writes what follows from them
                continue
            assert getattr(ours, name) == value, f"{kind.__name__}.{name}"


# What the authors published, without what does not differ from the defaults.
PUBLISHED: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rope_theta": 100000,
        "rope_scaling": None, "rope_interleaved": False, "is_llama_config": True, "tie_word_embeddings": True,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "torch_dtype": "bfloat16", "mlp_bias": False,
        "architectures": ["LlamaForCausalLM"], "transformers.js_config": {"kv_cache_dtype": {}},
    },
    "Llama-3.2-1B": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
        "eos_token_id": [128001, 128008, 128009], "pretraining_tp": 1, "attention_bias": False,
    },
    "Mistral-7B-v0.1": {
        "model_type": "mistral", "max_position_embeddings": 32768, "rope_theta": 10000.0,
        "sliding_window": 4096, "torch_dtype": "bfloat16", "use_cache": True,
    },
    "Qwen2.5-0.5B": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "max_window_layers": 24, "sliding_window": 32768,
        "rope_theta": 1000000.0, "use_mrope": False, "use_sliding_window": False, "tie_word_embeddings": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_llama_reads_published_configurations(tmp_path: Path, name: str):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    ours = AutoConfig.from_pretrained(tmp_path)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    for key in ("num_key_value_heads", "sliding_window", "layer_types", "eos_token_id"):
        assert getattr(again, key, None) == getattr(theirs, key, None)
    assert {**theirs.rope_parameters, "partial_rotary_factor": 1.0} == again.rope_parameters
    assert ours.head_width == theirs.hidden_size // theirs.num_attention_heads


@pytest.mark.parametrize("scaling", ["default", "dynamic", "longrope"])
@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_llama_empty_batches_give_empty_logits(shape: tuple[int, int], scaling: str):
    model = LlamaForCausalLM(
        LlamaConfig(**SMALL, head_dim=10, rope_scaling=ROPE.get(scaling), max_position_embeddings=3)
    ).eval()
    ids = np.zeros(shape, dtype=np.int64)
    assert model(ids).logits.shape == (*shape, 19)
    assert model(ids, attention_mask=np.ones(shape), use_cache=True).logits.shape == (*shape, 19)


def test_qwen2_windows_are_where_transformers_has_them():
    for more in ({}, {"use_sliding_window": True}, {"use_sliding_window": True, "max_window_layers": 1}):
        theirs = transformers.Qwen2Config(**SMALL, sliding_window=5, **more)
        windows = [5 if kind == "sliding_attention" else None for kind in theirs.layer_types]
        for ours in (Qwen2Config(**SMALL, sliding_window=5, **more), Qwen2Config.from_dict(theirs.to_dict())):
            assert [ours.window(layer) for layer in range(3)] == windows
    assert [MistralConfig(**SMALL, sliding_window=6).window(layer) for layer in range(3)] == [6] * 3


def test_llama_passes_over_the_frequencies_that_old_checkpoints_store(tmp_path: Path):
    model = LlamaForCausalLM(LlamaConfig(**SMALL))
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again([[1, 2]]).logits.numpy(), model.eval()([[1, 2]]).logits.numpy())


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            LlamaConfig,
            {"num_attention_heads": 3},
            "num_attention_heads must divide hidden_size",
        ),
        (LlamaConfig, {"num_key_value_heads": 3}, "num_key_value_heads must divide num_attention_heads"),
        (LlamaConfig, {"head_dim": 5}, "pairs of elements: 5 of a head's 5 cannot be paired"),
        (LlamaConfig, {"hidden_act": "mish"}, "hidden_act 'mish' is not built in"),
        (LlamaConfig, {"rms_norm_eps": 0.0}, "rms_norm_eps must be above 0"),
        (LlamaConfig, {"sliding_window": 4}, "unknown key 'sliding_window'"),
        (LlamaConfig, {"rope_parameters": 3}, "rope_parameters must be a JSON object, got 3"),
        (LlamaConfig, {"rope_scaling": {"rope_type": "xpos"}}, "rope_type 'xpos' is not built in; expected"),
        (LlamaConfig, {"rope_scaling": {"rope_type": "linear"}}, "factor is missing, which 'linear' needs"),
        (
            LlamaConfig,
            {"rope_scaling": {"type": "linear", "factor": 0.5}},
            "factor must be at least 1",
        ),
        (LlamaConfig, {"rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be a number above 0"),
        (LlamaConfig, {"rope_scaling": {"rope_type": "yarn", "alpha": 1}}, "unknown key 'alpha'"),
        (LlamaConfig, {"rope_theta": 0.0}, "rope_theta must be a number above 0, got 0.0"),
        (LlamaConfig, {"rope_theta": 1.0}, "rope_theta must be above 1, got 1.0"),
        (LlamaConfig, {"partial_rotary_factor": 1.5}, "partial_rotary_factor must be above 0 and at most 1"),
        (
            LlamaConfig,
            {"rope_scaling": {**ROPE["longrope"], "long_factor": [1.0]}},
            "must hold 2 numbers, one for each pair",
        ),
        (
            LlamaConfig,
            {"rope_scaling": {**ROPE["llama3"], "high_freq_factor": 1.0}},
            "high_freq_factor must be above low_freq_factor",
        ),
        (MistralConfig, {"sliding_window": 0}, "sliding_window must be at least 1, got 0"),
        (
            Qwen2Config,
            {"layer_types": ["full_attention"]},
            "layer_types must name .* each of the 3 blocks",
        ),
    ],
)
def test_llama_config_errors_are_named(kind: Any, values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=f"{kind.__name__}: .*{message}"):
        kind(**{**SMALL, **values})


def test_rope_turns_any_positions_alike():
    positions = RotaryPositions(RopeParameters(rope_theta=50.0), 8, 16)
    whole = positions(np.arange(30), 30, "cpu")
    assert whole.rows is None
    some = positions(np.array([[3, 29, 3], [0, 1, 2]]), 3, "cpu")
    assert some.rows is not None
    np.testing.assert_array_equal(
        some.cos.numpy()[some.rows.numpy()], whole.cos.numpy()[[[3, 29, 3], [0, 1, 2]]]
    )
    assert positions(np.zeros((2, 0), np.int64), 0, "cpu").cos.shape == (0, 4)
