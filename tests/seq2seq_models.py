"""Encoder-decoders of transformers with random weights, and their twins, to compare with."""

from __future__ import annotations

import copy
import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5LayerNorm

from pymodel.models import AutoConfig, AutoModelForSeq2SeqLM

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

BATCH, SOURCE, TARGET = 3, 13, 9
VOCABULARY = 61  # no vector width or tile divides it


@dataclasses.dataclass(frozen=True)
class Case:
    """A family's classes in transformers, what is awkward about a configuration, and the deviation of random
    weights: large enough that the source matters, small enough that no attention is a choice of one."""

    config: type[Any]
    model: type[Any]
    options: dict[str, Any]
    deviation: float = 0.3


# Extents that no vector width or tile divides, and every way in which a configuration changes the sums.
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 23,
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 37,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 29,
    "dropout": 0.0,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}


def _bart(**options: Any) -> Case:
    return Case(transformers.BartConfig, transformers.BartForConditionalGeneration, {**_SHAPE, **options})


def _marian(**options: Any) -> Case:
    own = {"eos_token_id": 0, "pad_token_id": VOCABULARY - 1, "decoder_start_token_id": VOCABULARY - 1}
    return Case(
        transformers.MarianConfig,
        transformers.MarianMTModel,
        {**_SHAPE, "activation_function": "swish", **own, **options},
        0.2,
    )


def _t5(**options: Any) -> Case:
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 22,
        "d_kv": 6,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 3,
        "relative_attention_num_buckets": 10,
        "relative_attention_max_distance": 9,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 0,
    }
    return Case(transformers.T5Config, transformers.T5ForConditionalGeneration, {**shape, **options}, 0.2)


CASES: dict[str, Case] = {
    "bart": _bart(),
    "bart-untied": _bart(tie_word_embeddings=False, activation_function="gelu_new"),
    "bart-scaled": _bart(scale_embedding=True, activation_function="relu", d_model=18),
    "bart-tanh": _bart(activation_function="tanh", decoder_layers=1, decoder_attention_heads=1),
    "bart-silu": _bart(activation_function="silu", encoder_layers=1, encoder_attention_heads=8),
    "marian": _marian(scale_embedding=True),
    "marian-odd-width": _marian(d_model=21, decoder_attention_heads=7, tie_word_embeddings=False),
    "marian-two-vocabularies": _marian(share_encoder_decoder_embeddings=False, decoder_vocab_size=67),
    "marian-untied": _marian(
        share_encoder_decoder_embeddings=False, tie_word_embeddings=False, activation_function="gelu"
    ),
    "t5": _t5(),
    "t5-gated-untied": _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=1),
    "t5-all-untied": _t5(num_heads=1),
    "t5-gated-silu": _t5(
        feed_forward_proj="gated-silu", num_heads=1, d_kv=5, num_layers=3, num_decoder_layers=2
    ),
    "t5-gelu": _t5(feed_forward_proj="gelu", d_model=17, relative_attention_num_buckets=5),
}
FIRST = list({case.model: name for name, case in reversed(CASES.items())}.values())[::-1]  # of each family


def reference_model(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model whose every parameter is random and large enough to matter, biases and norms too."""
    case = CASES[name]
    torch.manual_seed(seed)
    config = case.config(**{**case.options, **changes})
    if name == "t5-all-untied":
        config.tie_word_embeddings = False  # the constructor of T5's configuration overrules it
    model = case.model(config)
    if name == "t5-gated-untied":
        # transformers 5 unties the head when it finds one in a checkpoint.
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        model.all_tied_weights_keys.pop("lm_head.weight")
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn_like(parameter) * case.deviation
            is_norm = "norm" in parameter_name and parameter_name.endswith("weight")
            parameter.copy_(1.0 + noise if is_norm else noise)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias) * 0.2)
    return model.eval()


def saved_model(folder: Path, name: str, seed: int = 0, **changes: Any) -> Any:
    """A random model, written to the folder by transformers."""
    model = reference_model(name, seed, **changes)
    model.save_pretrained(folder)
    return model


def in_float64(model: Any) -> Any:
    """A copy that computes in float64 throughout, in T5's norms too, which transformers takes in float32."""
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        if isinstance(module, T5LayerNorm):
            module.forward = types.MethodType(_exact_norm, module)
    return exact


def _exact_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return norm.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)


def trio(folder: Path, name: str, **changes: Any) -> tuple[Any, Any, Any]:
    """A model of transformers, the same in float64, and ours loaded from the saved one."""
    theirs = saved_model(folder, name, **changes)
    return theirs, in_float64(theirs), AutoModelForSeq2SeqLM.from_pretrained(folder)


def trained_parameters(model: Any) -> dict[str, Any]:
    """Parameters by name, without position tables that transformers keeps as frozen ones."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def batch(
    seed: int = 1, source_padding: str = "right", target_padding: bool = False
) -> dict[str, np.ndarray]:
    """A batch of `labels` with holes and `input_ids`, padded on one side, by holes or not at all ("")."""
    rng = np.random.default_rng(seed)
    lengths = np.array([SOURCE, 5, 1])
    mask = np.arange(SOURCE) < lengths[:, None]
    if source_padding == "left":
        mask = mask[:, ::-1].copy()
    if source_padding == "holes":
        mask[0, 4:7] = False
    labels = rng.integers(3, VOCABULARY, (BATCH, TARGET))
    labels[0, 3:5] = -100
    result = {"input_ids": rng.integers(3, VOCABULARY, (BATCH, SOURCE)), "labels": labels}
    if source_padding:
        result["attention_mask"] = mask.astype(np.int64)
    if target_padding:
        kept = np.arange(TARGET) < np.array([[TARGET], [4], [6]])
        result["decoder_attention_mask"] = kept.astype(np.int64)
        result["labels"] = np.where(kept, labels, -100)
    return result


def in_torch(arrays: dict[str, Any]) -> dict[str, Any]:
    """The same arguments for transformers."""
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in arrays.items()
    }


def tiny(name: str) -> Any:
    """Our model of a case's configuration, with initial weights."""
    case = CASES[name]
    config = AutoConfig.for_model(case.config.model_type, **case.options)
    return AutoModelForSeq2SeqLM.from_config(config).eval()
