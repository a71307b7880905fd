"""What encoders are built of: embeddings, and the block of attention and a feed-forward network.

Families name the layers of a block differently and compute the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pymodel import nn, ops
from pymodel.models.attention import merge_heads, split_heads
from pymodel.models.encoder_layout import EncoderLayout
from pymodel.tensor import Tensor


class Named(nn.Module):
    """Layers under the names that checkpoints give them, without anything to compute."""

    def __init__(self, /, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __getattr__(self, name: str) -> Any:
        # Only for names that are no attribute; it tells type checkers that others exist.
        raise AttributeError(f"no layer is named {name!r} here")


class BlockParts(NamedTuple):
    """The layers of a block; `new` makes them, and a family says under which names it holds them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    inner: nn.Linear
    output: nn.Linear
    output_norm: nn.LayerNorm

    @classmethod
    def new(cls, width: int, inner_width: int, eps: float, **where: Any) -> BlockParts:
        """Layers of a block of this width, with `eps` in the norms."""
        query, key, value, mixed = (nn.Linear(width, width, **where) for _ in range(4))
        first, second = (nn.LayerNorm(width, eps=eps, **where) for _ in range(2))
        inner, output = nn.Linear(width, inner_width, **where), nn.Linear(inner_width, width, **where)
        return cls(query, key, value, mixed, first, inner, output, second)


class EncoderBlock(nn.Module):
    """x = norm(x + attention(x));  x = norm(x + mlp(x)): a block that normalises what it has added up.

    Args:
        heads: of the attention; they divide the width.
        activation: inside the feed-forward network, by the names of `ops.linear`.
        attention_dropout: of the attention weights.
        dropout: of what is added to x.

    Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.
    """

    def __init__(self, heads: int, activation: str, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.activation = heads, activation
        self.attention_dropout_p, self.dropout_p = attention_dropout, dropout

    @property
    def parts(self) -> BlockParts:
        """The layers; each family holds them under names of its own."""
        raise NotImplementedError

    def forward(self, x: Tensor, layout: EncoderLayout, weights: list[Tensor] | None = None) -> Tensor:
        """Takes and returns (batch, sequence, width) or, packed, (tokens, width); a list gets the
        attention weights."""
        parts = self.parts
        q, k, v = (split_heads(layer(x), self.heads) for layer in parts[:3])
        attention_dropout_p = self.attention_dropout_p if self.training else 0.0
        mixed = layout.attend(q, k, v, dropout_p=attention_dropout_p, weights=weights)
        return self._after_attention(mixed, x, parts)

    def first_tokens(self, x: Tensor, layout: EncoderLayout) -> Tensor:
        """What `forward` makes of every text's first token, (batch, width): for a last block of which
        nothing else is read. The other tokens are keys and values only, about a sixth of the work."""
        parts = self.parts
        k, v = (split_heads(layer(x), self.heads) for layer in (parts.key, parts.value))
        first = layout.first_tokens(x)
        q = split_heads(parts.query(first), self.heads)
        attention_dropout_p = self.attention_dropout_p if self.training else 0.0
        mixed = layout.attend_from_first(q, k, v, dropout_p=attention_dropout_p)
        return self._after_attention(mixed, first, parts)

    def _after_attention(self, mixed: Tensor, x: Tensor, parts: BlockParts) -> Tensor:
        """The block's output from what attention made of x, (..., heads, head_dim), and from x."""
        mixed = merge_heads(mixed)
        dropout_p = self.dropout_p if self.training else 0.0
        if dropout_p > 0.0:
            x = ops.dropout(parts.attention_output(mixed), dropout_p, residual=x)
        else:
            x = parts.attention_output(mixed, residual=x)
        x = parts.attention_norm(x)
        normalised: Tensor = parts.output_norm(self._feed_forward(x, parts, dropout_p))
        return normalised

    def _feed_forward(self, x: Tensor, parts: BlockParts, dropout_p: float) -> Tensor:
        """x + mlp(x)"""
        inner, output = parts.inner, parts.output
        y = ops.mlp(
            x,
            inner.weight,
            inner.bias,
            output.weight,
            output.bias,
            self.activation,
            residual=None if dropout_p > 0.0 else x,
        )
        return ops.dropout(y, dropout_p, residual=x) if dropout_p > 0.0 else y


class EncoderEmbeddings(nn.Module):
    """LayerNorm(word + token type + position), under the names that all families share.

    Args:
        vocab_size, max_positions: rows of the tables.
        token_types: the same; 0 where a family has none.
        width: of the vectors.
        eps: added to variances.
        dropout: after the norm.
        padding_idx: the token for padding, which is not trained, or None.
        padding_position: the position of padding, where it has one.
        where: dtype and device.
    """

    def __init__(
        self,
        vocab_size: int,
        max_positions: int,
        token_types: int,
        width: int,
        eps: float,
        dropout: float,
        padding_idx: int | None,
        padding_position: int | None = None,
        **where: Any,
    ) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, width, padding_idx, **where)
        self.position_embeddings = nn.Embedding(max_positions, width, padding_position, **where)
        self.token_type_embeddings = nn.Embedding(token_types, width, **where) if token_types else None
        self.LayerNorm = nn.LayerNorm(width, eps=eps, **where)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, ids: np.ndarray, token_types: np.ndarray | None, positions: np.ndarray, layout: EncoderLayout
    ) -> Tensor:
        """Takes int64 arrays of (batch, sequence) or (1, sequence), or None for token types that are all
        0; returns (batch, sequence, width) or, packed, (tokens, width)."""
        x = self.word_embeddings(layout.place(ids))
        if self.token_type_embeddings is not None:
            if token_types is None or not token_types.any():
                x = x + self.token_type_embeddings.weight[:1]
            else:
                x = x + self.token_type_embeddings(layout.place(token_types))
        x = x + self.position_embeddings(layout.place(positions))
        result: Tensor = self.dropout(self.LayerNorm(x))
        return result


class Pooler(nn.Module):
    """tanh(linear(x)) of every text's first token, (batch, width)."""

    def __init__(self, width: int, **where: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width, activation="tanh", **where)

    def forward(self, first_tokens: Tensor) -> Tensor:
        """Takes and returns (batch, width)."""
        result: Tensor = self.dense(first_tokens)
        return result
