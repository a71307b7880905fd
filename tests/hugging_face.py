"""GPT-2 models of transformers with random weights, on disk and in memory, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from reference import assert_as_good_as_torch

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

# Extents that no vector width or tile divides, and every way in which a configuration changes the sums.
CONFIGS: dict[str, dict[str, Any]] = {
    "odd": {"vocab_size": 61, "n_embd": 24, "n_head": 3, "n_inner": 37},
    "untied": {"vocab_size": 67, "n_embd": 20, "n_head": 1, "tie_word_embeddings": False},
    "unscaled": {"vocab_size": 53, "n_embd": 30, "n_head": 5, "scale_attn_weights": False},
    "by_layer": {"vocab_size": 53, "n_embd": 16, "n_head": 2, "scale_attn_by_inverse_layer_idx": True},
    "erf_gelu": {"vocab_size": 50, "n_embd": 18, "n_head": 2, "activation_function": "gelu"},
}


def config_of(name: str, **changes: Any) -> transformers.GPT2Config:
    """A configuration of CONFIGS: 2 blocks, a context of 23 tokens, no dropout, end token 0."""
    common = {"n_positions": 23, "n_layer": 2, "bos_token_id": 0, "eos_token_id": 0}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2Config(**{**common, **dropout, **CONFIGS[name], **changes})


def reference_model(config: transformers.GPT2Config, seed: int = 0) -> transformers.GPT2LMHeadModel:
    """A model whose every parameter is random and large enough to matter, biases and norms too."""
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter) * 0.2
            parameter.copy_(1.0 + noise if "ln_" in name and name.endswith("weight") else noise)
    return model.eval()


def saved_model(
    folder: Path, name: str = "odd", seed: int = 0, **changes: Any
) -> transformers.GPT2LMHeadModel:
    """A random model, written to the folder by transformers."""
    model = reference_model(config_of(name, **changes), seed)
    model.save_pretrained(folder)
    return model


def in_float64(model: transformers.GPT2LMHeadModel) -> transformers.GPT2LMHeadModel:
    """A copy that computes in float64, its loss too, which transformers would take in float32."""
    copy = transformers.GPT2LMHeadModel(model.config)
    copy.load_state_dict(model.state_dict())
    copy.loss_function = causal_loss
    return copy.double().train(model.training)


def causal_loss(logits: torch.Tensor, labels: torch.Tensor, vocab_size: int, **_: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, vocab_size), labels[:, 1:].reshape(-1)
    )


def check_gradients(ours: Any, theirs: Any, exact: Any, dtype: str = "float32") -> None:
    """The gradients of all parameters, by the bound of `reference`."""
    same, truth = dict(theirs.named_parameters()), dict(exact.named_parameters())
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert set(gradients) == set(same)
    for name, gradient in gradients.items():
        assert_as_good_as_torch(gradient, same[name].grad, truth[name].grad, dtype, name)
