"""The blocks of Vaswani et al., which BART, Marian and the original Transformer are made of.

A branch takes what it works on and the residual stream, and returns their sum: without dropout the sum
is made inside the last product of the branch. Names are those of Hugging Face's BART.

Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pymodel import nn, ops
from pymodel.models.attention import merge_heads, split_heads
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.encoder_layout import EncoderLayout
from pymodel.models.seq2seq_config import Seq2SeqConfig
from pymodel.models.seq2seq_layout import Shown, Source, Target
from pymodel.models.seq2seq_stacks import Seq2SeqDecoder, Seq2SeqEncoder, Stack
from pymodel.random import next_offset
from pymodel.tensor import Tensor, tensor

Branch = Callable[..., Tensor]  # (x, residual, ...)


class Attention(nn.Module):
    """Multi-head attention (section 3.2.2).

    y = residual + dropout([head_1 ... head_h] W_out),  head_i = softmax(q_i k_i^T / sqrt(d)) v_i

    Args:
        config: the model's.
        heads: h; each is d = d_model / h wide.
        layer: number of the block.
        where: dtype and device of the parameters.
    """

    def __init__(self, config: Seq2SeqConfig, heads: int, layer: int, **where: Any) -> None:
        width = config.d_model
        self.heads, self.layer = heads, layer
        self.dropout_p, self.attention_dropout_p = config.dropout, config.attention_dropout
        self.k_proj = nn.Linear(width, width, **where)
        self.v_proj = nn.Linear(width, width, **where)
        self.q_proj = nn.Linear(width, width, **where)
        self.out_proj = nn.Linear(width, width, **where)

    def queries(self, x: Tensor) -> Tensor:
        """(..., width) as (..., heads, head_dim)."""
        return split_heads(self.q_proj(x), self.heads)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., width) as two of (..., heads, head_dim)."""
        return split_heads(self.k_proj(x), self.heads), split_heads(self.v_proj(x), self.heads)

    def options(self, weights: list[Tensor] | None) -> dict[str, Any]:
        """What every kind of attention is told."""
        return {"dropout_p": self.attention_dropout_p if self.training else 0.0, "weights": weights}

    def joined(self, mixed: Tensor, residual: Tensor) -> Tensor:
        """The end of the branch; mixed is (..., heads, head_dim)."""
        return add_projected(self.out_proj, merge_heads(mixed), residual, self.dropout_p)


class EncoderAttention(Attention):
    """Every token of a source looks at all of it."""

    def forward(
        self, x: Tensor, residual: Tensor, layout: EncoderLayout, weights: list[Tensor] | None
    ) -> Tensor:
        """Takes and returns states where the layout has them."""
        mixed = layout.attend(self.queries(x), *self.keys_and_values(x), **self.options(weights))
        return self.joined(mixed, residual)


class DecoderAttention(Attention):
    """Every token of a target looks at itself and those before it."""

    def forward(self, x: Tensor, residual: Tensor, target: Target, weights: list[Tensor] | None) -> Tensor:
        """Takes and returns (batch, target, width)."""
        q, (k, v) = self.queries(x), self.keys_and_values(x)
        return self.joined(target.attend(self.layer, q, k, v, **self.options(weights)), residual)


class CrossAttention(Attention):
    """Every token of a target looks at the source."""

    def forward(self, x: Tensor, residual: Tensor, source: Source, weights: list[Tensor] | None) -> Tensor:
        """Takes and returns (batch, target, width)."""
        options = self.options(weights)
        return self.joined(
            source.attend(self.layer, self.queries(x), self.keys_and_values, **options), residual
        )


class Block(nn.Module):
    """What the blocks of both stacks share: norms around branches, and the feed-forward network."""

    def __init__(self, config: Seq2SeqConfig, inner: int, **where: Any) -> None:
        self.norm_first = config.normalizes_first
        self.activation = ACTIVATIONS[config.activation_function]
        self.dropout_p, self.activation_dropout_p = config.dropout, config.activation_dropout
        self.fc1 = nn.Linear(config.d_model, inner, **where)
        self.fc2 = nn.Linear(inner, config.d_model, **where)
        self.final_layer_norm = nn.LayerNorm(config.d_model, **where)

    def around(self, norm: nn.LayerNorm, branch: Branch, x: Tensor, *seen: Any) -> Tensor:
        """norm(x + branch(x)), or with norms first x + branch(norm(x)); branches take `seen` too."""
        if self.norm_first:
            return branch(norm(x), x, *seen)
        result: Tensor = norm(branch(x, x, *seen))
        return result

    def feed_forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + dropout(f(x W_1 + b_1) W_2 + b_2)  (section 3.3)"""
        if self.training and self.activation_dropout_p > 0.0:
            hidden = ops.linear(x, self.fc1.weight, self.fc1.bias, self.activation)
            hidden = ops.dropout(hidden, self.activation_dropout_p)
            return add_projected(self.fc2, hidden, residual, self.dropout_p)
        weights = (self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        if self.training and self.dropout_p > 0.0:
            return ops.dropout(ops.mlp(x, *weights, self.activation), self.dropout_p, residual=residual)
        return ops.mlp(x, *weights, self.activation, residual=residual)


class EncoderBlock(Block):
    """Self-attention and a feed-forward network."""

    def __init__(self, config: Seq2SeqConfig, layer: int, **where: Any) -> None:
        super().__init__(config, config.encoder_ffn_dim, **where)
        self.self_attn = EncoderAttention(config, config.encoder_attention_heads, layer, **where)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, **where)

    def forward(self, x: Tensor, layout: EncoderLayout, shown: Shown) -> Tensor:
        """Takes and returns states where the layout has them."""
        x = self.around(
            self.self_attn_layer_norm,
            lambda y, residual: self.self_attn(y, residual, layout, shown.weights),
            x,
        )
        return self.around(self.final_layer_norm, self.feed_forward, x)


class DecoderBlock(Block):
    """Self-attention, attention to the source and a feed-forward network."""

    def __init__(self, config: Seq2SeqConfig, layer: int, **where: Any) -> None:
        super().__init__(config, config.decoder_ffn_dim, **where)
        self.self_attn = DecoderAttention(config, config.decoder_attention_heads, layer, **where)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, **where)
        self.encoder_attn = CrossAttention(config, config.decoder_attention_heads, layer, **where)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model, **where)

    def forward(self, x: Tensor, target: Target, source: Source, shown: Shown) -> Tensor:
        """Takes and returns (batch, target, width)."""
        x = self.around(
            self.self_attn_layer_norm,
            lambda y, residual: self.self_attn(y, residual, target, shown.weights),
            x,
        )
        x = self.around(
            self.encoder_attn_layer_norm,
            lambda y, residual: self.encoder_attn(y, residual, source, shown.cross_weights),
            x,
        )
        return self.around(self.final_layer_norm, self.feed_forward, x)


class EmbeddedStack(Stack):
    """What encoder and decoder share: embeddings, and blocks of which training may leave some out."""

    def __init__(
        self,
        config: Seq2SeqConfig,
        vocab_size: int,
        positions: nn.Module,
        layers: list[nn.Module],
        layerdrop: float,
        **where: Any,
    ) -> None:
        width = config.d_model
        self.max_positions = config.max_position_embeddings
        self.embed_scale = math.sqrt(width) if config.scale_embedding else 1.0
        self.dropout_p, self.layerdrop = config.dropout, layerdrop
        self.embed_tokens = nn.Embedding(vocab_size, width, config.pad_token_id, **where)
        self.embed_positions = positions
        self.layers = nn.ModuleList(layers)
        self.layernorm_embedding = nn.LayerNorm(width, **where) if config.embedding_norm else None
        self.layer_norm = nn.LayerNorm(width, **where) if config.normalizes_first else None

    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        """The sum of token and position embeddings, (..., width), normalised where the family does so."""
        x = self.embed_tokens(ids)
        if self.embed_scale != 1.0:
            x = x * self.embed_scale
        x = x + self.embed_positions(positions)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return ops.dropout(x, self.dropout_p, self.training)

    def through_layers(self, x: Tensor, states: list[Tensor] | None, *seen: Any) -> Tensor:
        """The output of the last block; each gets x and `seen`.

        Source of leaving blocks out: Fan et al., "Reducing Transformer Depth on Demand with Structured
        Dropout", arXiv:1909.11556.
        """
        for layer in self.layers:
            if states is not None:
                states.append(x)
            if not (self.training and self.layerdrop > 0.0 and _uniform() < self.layerdrop):
                x = layer(x, *seen)
        return x if self.layer_norm is None else self.layer_norm(x)


class Encoder(EmbeddedStack, Seq2SeqEncoder):
    """Embeddings and blocks for the source; `positions` embeds (...) integers as (..., width)."""

    def __init__(self, config: Seq2SeqConfig, positions: nn.Module, **where: Any) -> None:
        layers: list[nn.Module] = [EncoderBlock(config, i, **where) for i in range(config.encoder_layers)]
        size, layerdrop = config.source_vocab_size, config.encoder_layerdrop
        super().__init__(config, size, positions, layers, layerdrop, **where)

    def _run(self, ids: np.ndarray, layout: EncoderLayout, shown: Shown) -> Tensor:
        positions = np.arange(layout.sequence)[None]
        x = self.embedded(layout.place(ids), layout.place(positions))
        return self.through_layers(x, shown.states, layout, shown)


class Decoder(EmbeddedStack, Seq2SeqDecoder):
    """Embeddings and blocks for the target; `positions` as in `Encoder`."""

    def __init__(self, config: Seq2SeqConfig, positions: nn.Module, **where: Any) -> None:
        layers: list[nn.Module] = [DecoderBlock(config, i, **where) for i in range(config.decoder_layers)]
        size, layerdrop = config.target_vocab_size, config.decoder_layerdrop
        super().__init__(config, size, positions, layers, layerdrop, **where)

    def _run(self, ids: np.ndarray, target: Target, source: Source, shown: Shown) -> Tensor:
        device = self.embed_tokens.weight.device
        x = self.embedded(tensor(ids, device=device), tensor(target.layout.positions, device=device))
        return self.through_layers(x, shown.states, target, source, shown)


def add_projected(projection: nn.Linear, x: Tensor, residual: Tensor, dropout_p: float) -> Tensor:
    """residual + dropout(projection(x)); dropout acts while the projection is in training mode."""
    if projection.training and dropout_p > 0.0:
        return ops.dropout(projection(x), dropout_p, residual=residual)
    result: Tensor = projection(x, residual)
    return result


def _uniform() -> float:
    """A number between 0 and 1 from the library's generator."""
    return float(np.random.default_rng(next_offset()).random())
