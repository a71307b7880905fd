"""Multi-head attention with its projections."""

from __future__ import annotations

from typing import Any

from pymodel import ops
from pymodel.nn.linear import Linear
from pymodel.nn.module import Module
from pymodel.tensor import Tensor


class MultiHeadAttention(Module):
    """Attention of several heads between a projection in and one out.

    y = [head_1 ... head_n] W_out,  head_i = softmax(scale * q_i k_i^T + bias) v_i

    Self-attention projects queries, keys and values in one product. With `context_dim` it is cross
    attention: queries from x, keys and values in one product from the context.

    Args:
        embed_dim: width of x and y.
        num_heads: query heads.
        num_kv_heads: key and value heads, a divisor of num_heads; neighbouring query heads share one
            (grouped-query attention). As many as num_heads when None.
        head_dim: width of a head; embed_dim / num_heads when None.
        context_dim: width of the context; None for self-attention.
        bias: whether the projections have one.
        causal: a position sees itself and earlier ones only.
        window: (left, right) or an int, how far it sees, as in `ops.attention`; None for all the way.
        dropout: probability of dropping an attention weight while training.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.

    Attributes:
        qkv_proj: `Linear` to (num_heads + 2 num_kv_heads) heads, in the order q, k, v; with a context
            instead q_proj and kv_proj.
        out_proj: `Linear` back to embed_dim.

    Raises: ValueError for numbers that do not fit together.

    Sources: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762; Ainslie et al., "GQA",
    arXiv:2305.13245.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        context_dim: int | None = None,
        bias: bool = True,
        causal: bool = False,
        window: int | tuple[int, int] | None = None,
        dropout: float = 0.0,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"MultiHeadAttention: num_heads must be a multiple of num_kv_heads, "
                f"got {num_heads} and {num_kv_heads}"
            )
        if head_dim is None and embed_dim % num_heads:
            raise ValueError(
                f"MultiHeadAttention: embed_dim must be a multiple of num_heads, got {embed_dim} and "
                f"{num_heads}; or give head_dim"
            )
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"MultiHeadAttention: dropout must lie between 0 and 1, got {dropout}")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.causal, self.window, self.dropout = causal, window, dropout
        where: dict[str, Any] = {"bias": bias, "dtype": dtype, "device": device}
        query_dim, key_dim = num_heads * self.head_dim, num_kv_heads * self.head_dim
        self.is_cross_attention = context_dim is not None
        if context_dim is None:
            self.qkv_proj = Linear(embed_dim, query_dim + 2 * key_dim, **where)
        else:
            self.q_proj = Linear(embed_dim, query_dim, **where)
            self.kv_proj = Linear(context_dim, 2 * key_dim, **where)
        self.out_proj = Linear(query_dim, embed_dim, **where)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        key_lengths: Any = None,
        query_lengths: Any = None,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Mixes the positions of x, or those of the context into x.

        Args:
            x: (batch, seq, embed_dim).
            context: (batch, context_seq, context_dim), for cross attention only.
            key_lengths: (batch,) integers: keys from there on are padding. In self-attention the
                same usually holds for query_lengths.
            query_lengths: (batch,) integers, the same for queries, whose results are then those of
                zeros.
            bias: added to the scores, broadcast to (batch, num_heads, seq, keys).
            residual: (batch, seq, embed_dim), added to the result in the same pass.

        Returns: (batch, seq, embed_dim).

        Raises: ValueError for a context that is missing or not wanted, or shapes that do not fit.
        """
        if x.ndim != 3:
            raise ValueError(f"MultiHeadAttention: x must have shape (batch, seq, embed_dim), got {x.shape}")
        if self.is_cross_attention != (context is not None):
            wanted = (
                "a context" if self.is_cross_attention else "no context; set context_dim for cross attention"
            )
            raise ValueError(f"MultiHeadAttention: this module takes {wanted}")
        heads, kv_heads = self.num_heads, self.num_kv_heads
        if context is None:
            q, k, v = self._split(self.qkv_proj(x), [heads, kv_heads, kv_heads])
        else:
            (q,) = self._split(self.q_proj(x), [heads])
            k, v = self._split(self.kv_proj(context), [kv_heads, kv_heads])
        mixed = ops.attention(
            q,
            k,
            v,
            self.causal,
            key_lengths=key_lengths,
            query_lengths=query_lengths,
            window=self.window,
            bias=bias,
            dropout_p=self.dropout if self.training else 0.0,
        )
        y: Tensor = self.out_proj(mixed.reshape(*x.shape[:2], heads * self.head_dim), residual)
        return y

    def _split(self, packed: Tensor, counts: list[int]) -> tuple[Tensor, ...]:
        """(batch, seq, heads * head_dim) seen as (batch, seq, count, head_dim) for each count."""
        batch, sequence, _ = packed.shape
        return ops.split(packed.reshape(batch, sequence, sum(counts), self.head_dim), counts, 2)

    def extra_repr(self) -> str:
        options = [f"num_heads={self.num_heads}"]
        options += [f"num_kv_heads={self.num_kv_heads}"] if self.num_kv_heads != self.num_heads else []
        options += [f"head_dim={self.head_dim}"]
        options += [f"causal={self.causal}"] if self.causal else []
        options += [f"window={self.window}"] if self.window is not None else []
        options += [f"dropout={self.dropout}"] if self.dropout else []
        return ", ".join(options)
