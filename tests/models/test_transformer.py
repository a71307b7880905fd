"""The original Transformer against torch.nn.Transformer with the same weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import Draws, gradient_of, to_torch

import pymodel as pm
from pymodel.errors import ConfigError
from pymodel.models import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from pymodel.models.sinusoids import sinusoids

VOCAB, WIDTH, HEADS, INNER, SOURCE, TARGET = 53, 24, 3, 37, 11, 7


def config_of(**changes: Any) -> TransformerConfig:
    shape = {
        "vocab_size": VOCAB,
        "d_model": WIDTH,
        "encoder_layers": 2,
        "encoder_attention_heads": HEADS,
        "encoder_ffn_dim": INNER,
        "decoder_layers": 2,
        "decoder_attention_heads": HEADS,
        "decoder_ffn_dim": INNER,
        "max_position_embeddings": 31,
        "dropout": 0.0,
    }
    return TransformerConfig(**{**shape, **changes})


def our_model(**changes: Any) -> TransformerForConditionalGeneration:
    """A model whose every parameter is random and large enough to matter."""
    model = TransformerForConditionalGeneration(config_of(**changes)).eval()
    rng = np.random.default_rng(0)
    with pm.no_grad():
        for name, parameter in model.named_parameters():
            noise = (rng.standard_normal(parameter.shape) * 0.25).astype(np.float32)
            parameter.copy_(pm.tensor(noise + ("norm" in name and name.endswith("weight"))))
    return model


class TorchTransformer(torch.nn.Module):
    """torch's blocks between embeddings written out here; `ours` gives the weights."""

    def __init__(self, ours: TransformerForConditionalGeneration, dtype: torch.dtype) -> None:
        super().__init__()
        config = ours.config
        options: dict[str, Any] = {
            "d_model": WIDTH,
            "nhead": HEADS,
            "dim_feedforward": INNER,
            "dropout": 0.0,
            "activation": config.activation_function,
            "batch_first": True,
            "norm_first": config.norm_first,
        }
        norms = [torch.nn.LayerNorm(WIDTH) if config.norm_first else None for _ in range(2)]
        encoder = torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(**options), 2, norms[0], enable_nested_tensor=False
        )
        decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**options), 2, norms[1])
        self.blocks = torch.nn.Transformer(
            custom_encoder=encoder, custom_decoder=decoder, d_model=WIDTH, nhead=HEADS, batch_first=True
        )
        self.state = {name: value.numpy() for name, value in ours.state_dict().items()}
        self.embedding = torch.nn.Parameter(to_torch(self.state["model.shared.weight"], dtype))
        self.table = to_torch(sinusoids(31, WIDTH), dtype)
        self.to(dtype)
        with torch.no_grad():
            for name, parameter in self.blocks.named_parameters():
                parameter.copy_(to_torch(self.of_ours(name, self.state), dtype))

    @staticmethod
    def of_ours(name: str, ours: dict[str, np.ndarray]) -> np.ndarray:
        """What our names hold for a name of torch's blocks."""
        name = "model." + name
        renamed = {
            "linear1": "fc1",
            "linear2": "fc2",
            "multihead_attn": "encoder_attn",
            "norm1": "self_attn_layer_norm",
            "norm2": "encoder_attn_layer_norm" if "decoder" in name else "final_layer_norm",
            "norm3": "final_layer_norm",
            "coder.norm": "coder.layer_norm",
        }
        for theirs, mine in renamed.items():
            name = name.replace(theirs, mine)
        if "in_proj" in name:
            prefix, kind = name.split("in_proj_")
            return np.concatenate([ours[f"{prefix}{part}_proj.{kind}"] for part in "qkv"])
        return ours[name]

    def embedded(self, ids: np.ndarray) -> torch.Tensor:
        rows = torch.nn.functional.embedding(torch.from_numpy(ids), self.embedding, padding_idx=0)
        return rows * math.sqrt(WIDTH) + self.table[: ids.shape[1]]

    def forward(self, source: np.ndarray, mask: np.ndarray, target: np.ndarray) -> torch.Tensor:
        padding = torch.from_numpy(mask == 0)
        causal = torch.triu(torch.ones(target.shape[1], target.shape[1], dtype=torch.bool), 1)
        states = self.blocks(
            self.embedded(source),
            self.embedded(target),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return states @ self.embedding.T


def batch(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources, their mask, and labels with holes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, VOCAB, (3, TARGET))
    labels[0, 2:4] = -100
    mask = (np.arange(SOURCE) < np.array([[SOURCE], [4], [1]])).astype(np.int64)
    return rng.integers(3, VOCAB, (3, SOURCE)), mask, labels


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_loss_logits_and_gradients_equal_torch(norm_first: bool, activation: str):
    ours = our_model(norm_first=norm_first, activation_function=activation)
    models = [TorchTransformer(ours, dtype) for dtype in (torch.float32, torch.float64)]
    draws = Draws()
    for seed in range(15):
        source, mask, labels = batch(seed)
        target = np.concatenate([np.full((3, 1), 1), np.where(labels < 0, 0, labels)[:, :-1]], axis=1)
        ours.zero_grad()
        output = ours(source, mask, labels=labels, label_smoothing=0.1)
        output.loss.backward()
        gradients = {name: gradient_of(p).numpy() for name, p in ours.named_parameters()}
        expected = []
        for model in models:
            model.zero_grad()
            logits = model(source, mask, target)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), torch.from_numpy(labels).reshape(-1), label_smoothing=0.1
            )
            loss.backward()
            expected.append((logits, loss, model))
        same, exact = expected
        draws.add("logits", output.logits, same[0], exact[0])
        draws.add("loss", output.loss, same[1], exact[1])
        draws.add("embedding", gradients["model.shared.weight"], *(m.embedding.grad for m in models))
        for (name, p), q in zip(
            models[0].blocks.named_parameters(), models[1].blocks.parameters(), strict=True
        ):
            wanted = [p.grad, q.grad]
            found = TorchTransformer.of_ours(name, gradients)
            if name.endswith("in_proj_bias"):  # the keys' part has no gradient but rounding noise
                keep = np.r_[0:WIDTH, 2 * WIDTH : 3 * WIDTH]
                found, wanted = found[keep], [g[keep] for g in wanted]
            draws.add(name, found, *wanted)
    draws.check()


def test_transformer_smooths_labels_in_training_only():
    model = our_model(label_smoothing=0.3)
    source, mask, labels = batch(0)
    losses = {
        smoothing: model(source, mask, labels=labels, label_smoothing=smoothing).loss.item()
        for smoothing in (0.0, 0.3)
    }
    assert losses[0.0] != losses[0.3]
    assert model(source, mask, labels=labels).loss.item() == losses[0.0]
    assert model.train()(source, mask, labels=labels).loss.item() == losses[0.3]


@pytest.mark.parametrize("changes", [{}, {"norm_first": True}, {"tie_word_embeddings": False}])
def test_transformer_comes_back_from_its_folder(tmp_path: Path, changes: dict[str, Any]):
    model = our_model(**changes)
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert again.config.to_dict().items() >= model.config.to_dict().items()
    source, mask, labels = batch(0)
    np.testing.assert_array_equal(
        again(source, mask, labels=labels).logits.numpy(), model(source, mask, labels=labels).logits.numpy()
    )
    bare = AutoModel.from_pretrained(tmp_path)
    states = bare(source, mask, np.ones((3, 2), dtype=np.int64)).last_hidden_state
    assert states.shape == (3, 2, WIDTH)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_transformer_generates_for_a_batch_what_it_generates_alone(norm_first: bool, beams: int):
    model = our_model(norm_first=norm_first)
    source, mask, _ = batch(0)
    options: dict[str, Any] = {"max_new_tokens": 9, "num_beams": beams, "no_repeat_ngram_size": 1}
    found = model.generate(source, attention_mask=mask, **options)
    without = model.generate(source, attention_mask=mask, use_cache=False, **options)
    np.testing.assert_array_equal(found, without)
    assert len({tuple(row) for row in found.tolist()}) > 1
    for row, ids, length in zip(found, source, mask.sum(axis=1), strict=True):
        alone = model.generate(ids[None, :length], **options)[0]
        np.testing.assert_array_equal(row[: len(alone)], alone)


def test_transformer_positions_are_those_of_the_paper():
    table = sinusoids(50, 6)
    for position, column in ((0, 0), (7, 2), (49, 5), (13, 3)):
        angle = position / 10000 ** ((column - column % 2) / 6)
        expected = math.cos(angle) if column % 2 else math.sin(angle)
        assert math.isclose(table[position, column], expected, abs_tol=1e-12)


def test_transformer_initial_states_have_deviation_one():
    pm.manual_seed(0)
    model = TransformerForConditionalGeneration(config_of(d_model=96, vocab_size=300))
    embedding = model.model.shared.weight.numpy()
    assert not embedding[0].any()  # padding
    assert abs(embedding[1:].std() * math.sqrt(96) - 1) < 0.02
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "shared" not in name:
            wanted = math.sqrt(2 / sum(parameter.shape))
            assert abs(parameter.numpy().std() / wanted - 1) < 0.05, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing must lie between 0 and 1, got 1.5"),
        ({"decoder_attention_heads": 5}, "decoder_attention_heads must divide d_model"),
        ({"norm_first": 1}, "norm_first must be bool, got 1"),
        ({"init_std": 0.1}, "unknown key 'init_std'"),
    ],
)
def test_transformer_config_errors_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        config_of(**changes)


def test_transformer_target_needs_a_token_to_start_with():
    model = our_model(decoder_start_token_id=None)
    with pytest.raises(ValueError, match="shifting tokens to the right needs decoder_start_token_id"):
        model([[5]], labels=[[6]])
