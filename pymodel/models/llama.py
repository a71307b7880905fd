"""Llama and its relatives: rotary positions, RMS normalisation, gated feed-forward networks, shared keys.

One text serves Llama (and SmolLM2, which is one), Mistral and Qwen2: they differ in which projections have
biases and in how far back a block sees, which their configurations say. Names and layouts are those of
Hugging Face's checkpoints.

Sources: Touvron et al., "LLaMA", arXiv:2302.13971; Jiang et al., "Mistral 7B", arXiv:2310.06825; Yang et
al., "Qwen2 Technical Report", arXiv:2407.10671.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pymodel import nn, ops
from pymodel.models.attention import attend, merge_heads, split_heads
from pymodel.models.cache import KeyValueCache
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.decoder import CausalLanguageModel, DecoderModel, DecoderPretrainedModel
from pymodel.models.inputs import SequenceLayout
from pymodel.models.llama_config import LlamaConfig, LlamaFamilyConfig, MistralConfig, Qwen2Config
from pymodel.models.rope import Rotation
from pymodel.tensor import Tensor, tensor


class LlamaAttention(nn.Module):
    """Causal self-attention whose queries and keys are turned by their positions.

    Neighbouring query heads share a key head. Source: Ainslie et al., "GQA", arXiv:2305.13245.
    """

    def __init__(self, config: LlamaFamilyConfig, layer: int, **where: Any) -> None:
        super().__init__()
        self.heads, self.key_heads = config.num_attention_heads, config.key_heads
        self.layer, self.window = layer, config.window(layer)
        self.dropout_p = config.attention_dropout
        width, head_width = config.hidden_size, config.head_width
        inner_bias, outer_bias, _ = config.biases()
        self.q_proj = nn.Linear(width, self.heads * head_width, inner_bias, **where)
        self.k_proj = nn.Linear(width, self.key_heads * head_width, inner_bias, **where)
        self.v_proj = nn.Linear(width, self.key_heads * head_width, inner_bias, **where)
        self.o_proj = nn.Linear(self.heads * head_width, width, outer_bias, **where)

    def forward(
        self,
        x: Tensor,
        residual: Tensor,
        rotation: Rotation,
        layout: SequenceLayout,
        cache: KeyValueCache | None,
        weights: list[Tensor] | None,
    ) -> Tensor:
        """Takes the normalised x and the residual stream, (batch, sequence, hidden_size), and returns the
        stream with what attention adds."""
        query = rotation.turn(split_heads(self.q_proj(x), self.heads))
        key = rotation.turn(split_heads(self.k_proj(x), self.key_heads))
        value = split_heads(self.v_proj(x), self.key_heads)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        mixed = attend(
            query,
            key,
            value,
            causal=True,
            window=self.window,
            query_lengths=layout.query_lengths,
            key_lengths=layout.key_lengths,
            bias=layout.bias,
            dropout_p=self.dropout_p if self.training else 0.0,
            weights=weights,
        )
        result: Tensor = self.o_proj(merge_heads(mixed), residual)
        return result


class LlamaMLP(nn.Module):
    """The feed-forward network: down(f(gate(x)) * up(x)).

    Source: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
    """

    def __init__(self, config: LlamaFamilyConfig, **where: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        _, _, bias = config.biases()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.gate_proj = nn.Linear(width, inner, bias, **where)
        self.up_proj = nn.Linear(width, inner, bias, **where)
        self.down_proj = nn.Linear(inner, width, bias, **where)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """As `LlamaAttention`."""
        hidden = ops.gated_activation(self.gate_proj(x), self.up_proj(x), self.activation)
        result: Tensor = self.down_proj(hidden, residual)
        return result


class LlamaDecoderLayer(nn.Module):
    """s = s + attention(input_layernorm(s));  s = s + mlp(post_attention_layernorm(s))"""

    def __init__(self, config: LlamaFamilyConfig, layer: int, **where: Any) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, layer, **where)
        self.mlp = LlamaMLP(config, **where)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps, **where)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps, **where)

    def forward(self, residual: Tensor, *where: Any) -> Tensor:
        """Takes the residual stream and what `LlamaAttention` takes beside it; returns the stream."""
        residual = self.self_attn(self.input_layernorm(residual), residual, *where)
        result: Tensor = self.mlp(self.post_attention_layernorm(residual), residual)
        return result


class LlamaPretrainedModel(DecoderPretrainedModel):
    """What both models share: the configuration, the cache."""

    config_class: ClassVar[type[LlamaFamilyConfig]] = LlamaConfig
    base_model_prefix = "model"
    ignored_on_load = (r"\.rotary_emb\.inv_freq$",)  # old checkpoints store what positions compute

    config: LlamaFamilyConfig

    @property
    def cache_extents(self) -> tuple[int, int, int]:
        """Layers, key heads and their width."""
        return self.config.num_hidden_layers, self.config.key_heads, self.config.head_width


class LlamaModel(LlamaPretrainedModel, DecoderModel):
    """The stack of blocks, without a head.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
    """

    def __init__(self, config: LlamaFamilyConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        layers = range(config.num_hidden_layers)
        with nn.init.no_init():
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, **where)
            self.layers = nn.ModuleList([LlamaDecoderLayer(config, layer, **where) for layer in layers])
            self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps, **where)
        self.positions = config.rotary_positions()
        self.init_weights()

    def _run(
        self,
        ids: np.ndarray,
        layout: SequenceLayout,
        cache: KeyValueCache | None,
        states: list[Tensor] | None,
        weights: list[Tensor] | None,
    ) -> Tensor:
        residual = self.embed_tokens(tensor(ids, device=self.device))
        rotation = self.positions(layout.positions, layout.added, self.device)
        for layer in self.layers:
            if states is not None:
                states.append(residual)
            residual = layer(residual, rotation, layout, cache, weights)
        last: Tensor = self.norm(residual)
        return last


class LlamaForCausalLM(LlamaPretrainedModel, CausalLanguageModel):
    """Llama with its language-modelling head, which is the token embedding when tied.

    Args: as `LlamaModel`.
    """

    embedding_name = "embed_tokens.weight"

    def __init__(self, config: LlamaFamilyConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.model = LlamaModel(config, dtype, device)
        self.add_head(config.hidden_size, self.model.embed_tokens.weight)


class MistralModel(LlamaModel):
    """Mistral's stack of blocks, which see the latest tokens only. Args: as `LlamaModel`."""

    config_class = MistralConfig


class MistralForCausalLM(LlamaForCausalLM):
    """Mistral with its language-modelling head. Args: as `LlamaModel`."""

    config_class = MistralConfig


class Qwen2Model(LlamaModel):
    """Qwen2's stack of blocks, with biases of queries, keys and values. Args: as `LlamaModel`."""

    config_class = Qwen2Config


class Qwen2ForCausalLM(LlamaForCausalLM):
    """Qwen2 with its language-modelling head. Args: as `LlamaModel`."""

    config_class = Qwen2Config
