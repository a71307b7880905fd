"""Llama, Mistral and Qwen2 models of transformers with random weights, on disk and in memory."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from hugging_face import causal_loss
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

# Extents that no vector width or tile divides, key heads shared by odd numbers of query heads, heads whose
# width is not hidden_size / heads, and every way in which a configuration changes the sums.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
    },
    "llama gelu": {
        "hidden_size": 30, "num_attention_heads": 5, "num_key_value_heads": 1, "hidden_act": "gelu",
        "rope_theta": 500.0,
    },
    "mistral": {"hidden_size": 25, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 6,
                "sliding_window": 5},
    "mistral full": {"hidden_size": 18, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 4,
                     "sliding_window": None, "tie_word_embeddings": True, "hidden_act": "relu"},
    "qwen2": {"hidden_size": 28, "num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 14,
              "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen2 types": {"hidden_size": 21, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 12,
                    "use_sliding_window": True, "sliding_window": 7, "tie_word_embeddings": True,
                    "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip

# Scalings of rotary positions, all left behind by sequences of 17 tokens.
ROPE: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "old spelling": {"type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
    "yarn temperature": {
        "rope_type": "yarn", "factor": 2.0, "beta_fast": 3.0, "beta_slow": 0.5, "mscale": 0.7,
        "mscale_all_dim": 0.4, "truncate": False, "original_max_position_embeddings": 12,
    },
    "yarn attention": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.4, "beta_fast": 2.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 11,
    },
    "longrope": {
        "rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.0, 2.0],
        "long_factor": [1.0, 2.0, 3.0, 4.5, 6.0], "original_max_position_embeddings": 7,
    },
    "longrope factor": {
        "rope_type": "longrope", "factor": 4.0, "short_factor": [1.5, 1.1, 1.3, 1.0, 2.0],
        "long_factor": [1.0, 2.0, 3.0, 4.5, 6.0], "original_max_position_embeddings": 40,
    },
}  # fmt: skip
CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
}


def config_of(name: str, **changes: Any) -> Any:
    """A configuration of CONFIGS: 2 blocks, 97 tokens, trained on 16, end token 0."""
    common = {
        "vocab_size": 97, "intermediate_size": 37, "num_hidden_layers": 2, "max_position_embeddings": 16,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
    }  # fmt: skip
    kind, _ = CLASSES[name.split()[0]]
    return kind(**{**common, **CONFIGS[name], **changes})


def reference_model(config: Any, seed: int = 0) -> Any:
    """A model whose every parameter is random and large enough to matter, biases and norms too."""
    torch.manual_seed(seed)
    model = CLASSES[config.model_type][1](config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter) * 0.3
            parameter.copy_(1.0 + noise if name.endswith("norm.weight") else noise)
    return model.eval()


def saved_model(folder: Path, name: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random model, written to the folder by transformers."""
    model = reference_model(config_of(name, **changes), seed)
    model.save_pretrained(folder)
    return model


def in_float64(model: Any) -> Any:
    """A copy that computes all in float64: transformers takes norms, angles and the loss in float32."""
    exact = copy.deepcopy(model).double()
    exact.loss_function = causal_loss
    for module in exact.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(_rms_norm, module)
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = functools.partial(_rotary, module)
    return exact


def _rms_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * (x * scale)


def _rotary(rotary: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    frequencies_of = ROPE_INIT_FUNCTIONS.get(rotary.rope_type, rotary.compute_default_rope_parameters)
    with mock.patch.object(torch, "float", torch.float64), mock.patch.object(torch, "float32", torch.float64):
        frequencies, factor = frequencies_of(rotary.config, seq_len=int(position_ids.max()) + 1)
    angles = position_ids[..., None].double() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos() * factor, angles.sin() * factor
