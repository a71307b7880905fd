"""Attention as the families call it: fused, or with its weights for those who want to see them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymodel import ops
from pymodel.tensor import Tensor, tensor

Window = int | tuple[int, int] | None
_HIDDEN = float(np.finfo(np.float32).min)  # finite: a row without any key stays free of NaN


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., heads * head_dim) seen as (..., heads, head_dim)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads)


def merge_heads(x: Tensor) -> Tensor:
    """(..., heads, head_dim) seen as (..., heads * head_dim)."""
    return x.view(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    window: Window = None,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
    weights: list[Tensor] | None = None,
) -> Tensor:
    """`ops.attention`, which also hands out its weights when asked to.

    Args: as `ops.attention`.
        weights: a list that gets the weights after softmax and dropout, (batch, heads, queries, keys)
            of q's dtype. They are then made one by one, in memory for all of them.

    Returns: (batch, queries, heads, value_dim).
    """
    options: dict[str, Any] = {"query_lengths": query_lengths, "key_lengths": key_lengths, "window": window}
    if weights is None:
        return ops.attention(q, k, v, causal, scale, bias=bias, dropout_p=dropout_p, **options)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    groups = q.shape[2] // k.shape[2]
    queries, keys = ops.transpose(q, 1, 2), ops.permute(_repeated(k, groups), (0, 2, 3, 1))
    scores = ops.cast(queries @ keys, "float32") * scale
    if bias is not None:
        scores = scores + bias
    visible = visible_keys(q.shape[1], k.shape[1], causal, **options)
    scores = ops.masked_fill(scores, tensor(~visible, device=q.device), _HIDDEN)
    # A query that sees no key averages nothing, as in the kernel.
    seen = tensor(visible.any(axis=-1, keepdims=True).astype(np.float32), device=q.device)
    probabilities = ops.cast(ops.softmax(scores, -1) * seen, q.dtype)
    if dropout_p > 0.0:
        probabilities = ops.dropout(probabilities, dropout_p)
    weights.append(probabilities)
    return ops.transpose(probabilities @ ops.transpose(_repeated(v, groups), 1, 2), 1, 2).contiguous()


def visible_keys(
    queries: int,
    keys: int,
    causal: bool,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    window: Window,
) -> np.ndarray:
    """Which keys each query sees by the rules of `ops.attention`, (batch or 1, 1, queries, keys) bool."""
    query_counts = np.array([queries]) if query_lengths is None else query_lengths.numpy()
    key_counts = np.array([keys]) if key_lengths is None else key_lengths.numpy()
    query_counts, key_counts = np.broadcast_arrays(query_counts, key_counts)
    i, j = np.arange(queries)[None, :, None], np.arange(keys)[None, None, :]
    position = i + (key_counts - query_counts)[:, None, None]
    visible = (j < key_counts[:, None, None]) & (i < query_counts[:, None, None])
    left, right = (
        (-1, -1) if window is None else (window - 1, window - 1) if isinstance(window, int) else window
    )
    if causal:
        right = 0 if right < 0 else min(right, 0)
    if right >= 0:
        visible &= j <= position + right
    if left >= 0:
        visible &= j >= position - left
    return np.asarray(visible[:, None])


def _repeated(x: Tensor, groups: int) -> Tensor:
    """Every key head once for each of the query heads that share it."""
    if groups == 1:
        return x
    batch, sequence, heads, width = x.shape
    wide = ops.expand(ops.unsqueeze(x, 3), (batch, sequence, heads, groups, width))
    return ops.reshape(wide, (batch, sequence, heads * groups, width))
