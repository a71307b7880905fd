"""T5's blocks: a norm without mean before each branch, attention by content and by distance.

In float16 the residual stream and the last product of the feed-forward networks, whose values outgrow
that dtype, are float32.

Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
arXiv:1910.10683, section 2.1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pymodel import nn, ops
from pymodel.models.attention import merge_heads, split_heads
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.encoder_layout import EncoderLayout
from pymodel.models.seq2seq_blocks import add_projected
from pymodel.models.seq2seq_layout import Shown, Source, Target
from pymodel.models.t5_config import T5Config
from pymodel.tensor import Tensor, tensor


def stream_dtype(dtype: str) -> str:
    """The dtype of the residual stream of a model whose parameters have this one."""
    return "float32" if dtype == "float16" else dtype


class T5Norm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight, in the weight's dtype whatever that of x."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Takes and returns (..., d_model)."""
        if self.weight is None or x.dtype == self.weight.dtype:
            return super().forward(x, residual)
        return ops.cast(ops.rms_norm(x, ops.cast(self.weight, x.dtype), self.eps), self.weight.dtype)


class T5Attention(nn.Module):
    """Attention without scaling and without biases: head_i = softmax(q_i k_i^T + b_i) v_i

    Args:
        config: the model's.
        directions: 2 where tokens see both sides, 1 where they see what came before, and 0 for attention
            to the source, which has no distances. Only the first block's self-attention has a table of
            them; its bias b serves all blocks.
        where: dtype and device of the parameters.
    """

    def __init__(self, config: T5Config, directions: int, **where: Any) -> None:
        width, inner = config.d_model, config.num_heads * config.d_kv
        self.heads, self.dropout_p = config.num_heads, config.dropout_rate
        self.q = nn.Linear(width, inner, bias=False, **where)
        self.k = nn.Linear(width, inner, bias=False, **where)
        self.v = nn.Linear(width, inner, bias=False, **where)
        self.o = nn.Linear(inner, width, bias=False, **where)
        self.relative_attention_bias: nn.Embedding | None = None
        if directions:
            buckets = config.relative_attention_num_buckets
            self.farthest = config.relative_attention_max_distance
            self.relative_attention_bias = nn.Embedding(buckets, config.num_heads, **where)
            distances = np.arange(-self.farthest, self.farthest + 1)
            self.buckets = distance_buckets(distances, directions == 2, buckets, self.farthest)

    def queries(self, x: Tensor) -> Tensor:
        """(..., width) as (..., heads, d_kv)."""
        return split_heads(self.q(x), self.heads)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., width) as two of (..., heads, d_kv)."""
        return split_heads(self.k(x), self.heads), split_heads(self.v(x), self.heads)

    def options(self, weights: list[Tensor] | None) -> dict[str, Any]:
        """What every kind of attention is told."""
        return {"scale": 1.0, "dropout_p": self.dropout_p if self.training else 0.0, "weights": weights}

    def position_bias(self, positions: np.ndarray, keys: int) -> Tensor | None:
        """b, (batch or 1, heads, queries, keys) float32, of queries at these positions, (queries,) or
        (batch, queries), to keys at 0, 1, ..."""
        if self.relative_attention_bias is None:
            return None
        distances = np.arange(keys) - np.atleast_2d(positions)[..., None]
        distances = np.clip(distances, -self.farthest, self.farthest)
        device = self.relative_attention_bias.weight.device
        bias = self.relative_attention_bias(tensor(self.buckets[distances + self.farthest], device=device))
        return ops.cast(ops.permute(bias, (0, 3, 1, 2)).contiguous(), "float32")


def distance_buckets(distances: np.ndarray, both_sides: bool, buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each distance from a query to a key: small ones have one each, larger ones share, on a
    logarithmic scale.

    Args:
        distances: (...) int64, key minus query.
        both_sides: half of the buckets are for keys behind the query; otherwise those count as 0.
        buckets: how many there are.
        max_distance: distances from there on share the last bucket.
    """
    first = np.zeros_like(distances)
    if both_sides:
        buckets //= 2
        first = np.where(distances > 0, buckets, 0)
        away = np.abs(distances)
    else:
        away = np.maximum(-distances, 0)
    alone = buckets // 2
    # In float32, as the checkpoints were trained: the borders between buckets depend on the rounding.
    scale = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(alone))
    shared = scale / np.float32(math.log(max_distance / alone)) * np.float32(buckets - alone)
    shared = np.minimum(alone + shared.astype(np.int64), buckets - 1)
    return np.asarray(first + np.where(away < alone, away, shared))


class T5FeedForward(nn.Module):
    """wo f(wi x), or with a gate wo (f(wi_0 x) * wi_1 x)."""

    def __init__(self, config: T5Config, **where: Any) -> None:
        self.activation = ACTIVATIONS[config.dense_act_fn]
        self.is_gated, self.dropout_p = config.is_gated_act, config.dropout_rate
        if self.is_gated:
            self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False, **where)
            self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False, **where)
        else:
            self.wi = nn.Linear(config.d_model, config.d_ff, bias=False, **where)
        where = {**where, "dtype": stream_dtype(where["dtype"])}
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False, **where)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Takes the normalised x, (..., d_model); returns its sum with the residual stream."""
        dropout_p = self.dropout_p if self.training else 0.0
        if not (self.is_gated or dropout_p) and x.dtype == residual.dtype:
            return ops.mlp(x, self.wi.weight, None, self.wo.weight, None, self.activation, residual=residual)
        if self.is_gated:
            hidden = ops.gated_activation(self.wi_0(x), self.wi_1(x), self.activation)
        else:
            hidden = ops.linear(x, self.wi.weight, None, self.activation)
        return joined(self.wo, ops.dropout(hidden, dropout_p), residual, self.dropout_p)


class T5SelfAttentionBranch(nn.Module):
    """x + attention(norm(x)) of a text to itself."""

    def __init__(self, config: T5Config, directions: int, **where: Any) -> None:
        self.dropout_p = config.dropout_rate
        self.SelfAttention = T5Attention(config, directions, **where)
        self.layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon, **where)

    def forward(
        self, x: Tensor, attend: Callable[..., Tensor], bias: Tensor | None, weights: list[Tensor] | None
    ) -> Tensor:
        """Takes and returns the residual stream; `attend` is that of the layout."""
        attention, y = self.SelfAttention, self.layer_norm(x)
        q, (k, v) = attention.queries(y), attention.keys_and_values(y)
        mixed = attend(q, k, v, bias=bias, **attention.options(weights))
        return joined(attention.o, merge_heads(mixed), x, self.dropout_p)


class T5CrossAttentionBranch(nn.Module):
    """x + attention(norm(x)) of a target to its source."""

    def __init__(self, config: T5Config, **where: Any) -> None:
        self.dropout_p = config.dropout_rate
        self.EncDecAttention = T5Attention(config, 0, **where)
        self.layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon, **where)

    def forward(self, x: Tensor, layer: int, source: Source, weights: list[Tensor] | None) -> Tensor:
        """Takes and returns the residual stream, (batch, target, d_model)."""
        attention, y = self.EncDecAttention, self.layer_norm(x)
        q, options = attention.queries(y), attention.options(weights)
        mixed = source.attend(layer, q, attention.keys_and_values, **options)
        return joined(attention.o, merge_heads(mixed), x, self.dropout_p)


class T5FeedForwardBranch(nn.Module):
    """x + feed_forward(norm(x))"""

    def __init__(self, config: T5Config, **where: Any) -> None:
        self.DenseReluDense = T5FeedForward(config, **where)
        self.layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon, **where)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns the residual stream."""
        result: Tensor = self.DenseReluDense(self.layer_norm(x), x)
        return result


class T5EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network."""

    def __init__(self, config: T5Config, number: int, **where: Any) -> None:
        attention = T5SelfAttentionBranch(config, 0 if number else 2, **where)
        self.layer = nn.ModuleList([attention, T5FeedForwardBranch(config, **where)])

    def forward(self, x: Tensor, bias: Tensor | None, layout: EncoderLayout, shown: Shown) -> Tensor:
        """Takes and returns states where the layout has them."""
        attention, feed_forward = self.layer
        result: Tensor = feed_forward(attention(x, layout.attend, bias, shown.weights))
        return result


class T5DecoderBlock(nn.Module):
    """Self-attention, attention to the source and a feed-forward network."""

    def __init__(self, config: T5Config, number: int, **where: Any) -> None:
        self.number = number
        attention = T5SelfAttentionBranch(config, 0 if number else 1, **where)
        cross_attention = T5CrossAttentionBranch(config, **where)
        self.layer = nn.ModuleList([attention, cross_attention, T5FeedForwardBranch(config, **where)])

    def forward(self, x: Tensor, bias: Tensor | None, target: Target, source: Source, shown: Shown) -> Tensor:
        """Takes and returns (batch, target, d_model)."""
        attention, cross_attention, feed_forward = self.layer
        x = attention(x, functools.partial(target.attend, self.number), bias, shown.weights)
        x = cross_attention(x, self.number, source, shown.cross_weights)
        result: Tensor = feed_forward(x)
        return result


def joined(projection: nn.Linear, x: Tensor, residual: Tensor, dropout_p: float) -> Tensor:
    """residual + dropout(projection(x)), where the three may have different dtypes."""
    x = ops.cast(x, projection.weight.dtype)
    if x.dtype == residual.dtype:
        return add_projected(projection, x, residual, dropout_p)
    y = ops.cast(projection(x), residual.dtype)
    return ops.dropout(y, dropout_p, projection.training, residual=residual)
