"""What is T5's own: distances in buckets, a head that may be tied, float16, and the encoder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from reference import assert_as_good_as_torch
from safetensors.numpy import load_file, save_file
from seq2seq_models import CASES, batch, in_float64, in_torch, saved_model
from transformers.models.t5.modeling_t5 import T5Attention

import pymodel as pm
from pymodel.errors import ConfigError
from pymodel.models import AutoModelForTextEncoding, T5Config, T5EncoderModel, T5ForConditionalGeneration
from pymodel.models.t5_blocks import distance_buckets


@pytest.mark.parametrize("both_sides", [True, False])
@pytest.mark.parametrize(
    ("buckets", "max_distance"), [(32, 128), (32, 20), (10, 9), (5, 64), (4, 3), (64, 1000)]
)
def test_t5_buckets_are_those_of_transformers(both_sides: bool, buckets: int, max_distance: int):
    distances = np.arange(-3000, 3001)
    expected = T5Attention._relative_position_bucket(
        torch.from_numpy(distances), both_sides, buckets, max_distance
    )
    found = distance_buckets(distances, both_sides, buckets, max_distance)
    np.testing.assert_array_equal(found, expected.numpy())
    clipped = np.clip(distances, -max_distance, max_distance)
    np.testing.assert_array_equal(
        found, distance_buckets(clipped, both_sides, buckets, max_distance), "distances that share a bucket"
    )


def test_t5_heads_that_a_checkpoint_unties_are_untied(tmp_path: Path):
    theirs = saved_model(tmp_path, "t5-gated-untied")
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["tie_word_embeddings"] is True  # transformers 5 says so in every case
    ours = T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert ours.config.tie_word_embeddings is False
    np.testing.assert_array_equal(ours.lm_head.weight.numpy(), theirs.lm_head.weight.detach().numpy())
    assert not np.array_equal(ours.lm_head.weight.numpy(), ours.shared.weight.numpy())
    # As transformers 4 wrote it, the configuration says the same.
    del stored["scale_decoder_outputs"]
    (tmp_path / "config.json").write_text(json.dumps({**stored, "tie_word_embeddings": False}))
    again = T5ForConditionalGeneration.from_pretrained(tmp_path)
    arrays = batch()
    np.testing.assert_array_equal(again(**arrays).logits.numpy(), ours(**arrays).logits.numpy())


@pytest.mark.parametrize("model_class", ["T5ForConditionalGeneration", "T5Model", "T5EncoderModel"])
@pytest.mark.parametrize("tied", [(), ("encoder",), ("decoder",), ("shared", "encoder")])
def test_t5_embeddings_that_a_checkpoint_unties_are_untied(
    tmp_path: Path, model_class: str, tied: tuple[str, ...]
):
    saved_model(tmp_path, "t5-all-untied")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    if "shared" in tied:  # the encoder's stands for it
        del tensors["shared.weight"]
    elif tied:
        tensors[f"{tied[0]}.embed_tokens.weight"] = tensors["shared.weight"]
    save_file(tensors, path, {"format": "pt"})
    theirs = getattr(transformers, model_class).from_pretrained(tmp_path, attn_implementation="eager").eval()
    ours = getattr(pm.models, model_class).from_pretrained(tmp_path)
    untied = {"encoder", "decoder"} - set(tied)
    assert set(ours.config.untied_embeddings or ()) == untied
    ours.save_pretrained(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    arrays = batch()
    if model_class != "T5ForConditionalGeneration":
        labels = arrays.pop("labels")
        if model_class == "T5Model":
            arrays["decoder_input_ids"] = np.maximum(labels, 0)
    mask = ... if "labels" in arrays or model_class == "T5Model" else arrays["attention_mask"].astype(bool)
    with torch.no_grad():
        expected, same = (model(**in_torch(arrays)) for model in (theirs, again))
    field = "logits" if "labels" in arrays else "last_hidden_state"
    wanted = getattr(expected, field).numpy()[mask]
    np.testing.assert_array_equal(getattr(same, field).numpy()[mask], wanted)
    np.testing.assert_allclose(getattr(ours(**arrays), field).numpy()[mask], wanted, atol=2e-5)
    names = {name for name, _ in ours.named_parameters()}
    for side in ("encoder", "decoder"):
        has = side in untied and hasattr(ours, side)
        assert (f"{side}.embed_tokens.weight" in names) == has


def test_t5_embeddings_stored_three_times_are_one(tmp_path: Path):
    """As version 1.1 was converted once: a head of its own, and the same embedding under all names."""
    saved_model(tmp_path, "t5-gated-untied")
    expected = T5ForConditionalGeneration.from_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    for side in ("encoder", "decoder"):
        tensors[f"{side}.embed_tokens.weight"] = tensors["shared.weight"]
    save_file(tensors, path, {"format": "pt"})
    ours = T5ForConditionalGeneration.from_pretrained(tmp_path, tie_word_embeddings=False)
    assert ours.encoder.embed_tokens is ours.decoder.embed_tokens is ours.shared
    for found, wanted in zip(ours.parameters(), expected.parameters(), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_t5_float16_survives_values_that_outgrow_it(tmp_path: Path):
    theirs = saved_model(tmp_path, "t5")
    with torch.no_grad():
        for stack in (theirs.encoder, theirs.decoder):
            for block in stack.block:
                block.layer[-1].DenseReluDense.wo.weight.mul_(1e5)
    theirs.save_pretrained(tmp_path)
    same = type(theirs).from_pretrained(tmp_path, dtype=torch.float16, attn_implementation="eager").eval()
    ours = T5ForConditionalGeneration.from_pretrained(tmp_path, dtype="float16")
    arrays = batch()
    output = ours(**arrays, output_hidden_states=True)
    states = output.decoder_hidden_states
    assert max(float(np.abs(state.numpy()).max()) for state in states[:-1]) > 65504
    with torch.no_grad():
        rounded, exact = (model(**in_torch(arrays)).logits for model in (same, in_float64(same)))
    assert_as_good_as_torch(output.logits, rounded, exact, "float16", "logits")
    assert np.isfinite(ours.generate(arrays["input_ids"], max_new_tokens=3)).all()


@pytest.mark.parametrize("side", ["", "right", "left", "holes"])
def test_t5_encoder_alone_equals_transformers(tmp_path: Path, side: str):
    saved_model(tmp_path, "t5-gated-silu")
    theirs = transformers.T5EncoderModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    arrays = batch(source_padding=side)
    arrays.pop("labels")
    mask = np.asarray(arrays.get("attention_mask", np.ones_like(arrays["input_ids"]))).astype(bool)
    with torch.no_grad():
        expected = [m(**in_torch(arrays)).last_hidden_state for m in (theirs, in_float64(theirs))]
    ours = AutoModelForTextEncoding.from_pretrained(tmp_path)  # of a checkpoint of the whole model
    ours.save_pretrained(tmp_path / "encoder")
    for model in (ours, T5EncoderModel.from_pretrained(tmp_path / "encoder")):
        for read in (True, False):
            states = model(**arrays, padding_is_read=read).last_hidden_state.numpy()
            same, exact = (state.numpy()[mask] for state in expected)
            assert_as_good_as_torch(states[mask], same, exact, "float32", "states")
    again = transformers.T5EncoderModel.from_pretrained(tmp_path / "encoder").eval()
    with torch.no_grad():
        np.testing.assert_allclose(
            again(**in_torch(arrays)).last_hidden_state.numpy()[mask], expected[0].numpy()[mask], atol=1e-5
        )
    pm.models.from_pretrained(tmp_path / "encoder")
    with pytest.raises(pm.errors.CheckpointError, match="missing: decoder"):
        T5ForConditionalGeneration.from_pretrained(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward_proj": "gated-swoosh"}, "feed_forward_proj 'gated-swoosh' is not built in"),
        ({"relative_attention_num_buckets": 3}, "relative_attention_num_buckets must be at least 4"),
        ({"relative_attention_max_distance": 5}, "relative_attention_max_distance must be above half"),
        ({"num_decoder_layers": 0}, "num_decoder_layers must be at least 1"),
        ({"untied_embeddings": ["shared"]}, "untied_embeddings must name encoder or decoder"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon must be above 0"),
        ({"d_modal": 3}, "unknown key 'd_modal'; did you mean 'd_model'"),
    ],
)
def test_t5_config_errors_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        T5Config(**{**CASES["t5"].options, **changes})


def test_t5_config_follows_what_replaces_the_activation(tmp_path: Path):
    saved_model(tmp_path, "t5-gated-silu")
    config = T5Config.from_pretrained(tmp_path, feed_forward_proj="gated-gelu")
    assert config.dense_act_fn == "gelu_new"
    config.save_pretrained(tmp_path)
    assert transformers.T5Config.from_pretrained(tmp_path).dense_act_fn == "gelu_new"
