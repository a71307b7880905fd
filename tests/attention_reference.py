"""attention by its formula, in torch: what the tests of every layout and device compare with."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from reference import check_op

from pymodel import ops

# Options travel as dictionaries: nothing for a type checker.
attention: Any = ops.attention
DTYPES = ["float32", "bfloat16", "float16"]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def draw_qkv(batch: int, sq: int, sk: int, heads: int, kv_heads: int, d: int, dv: int) -> list[np.ndarray]:
    shapes = (batch, sq, heads, d), (batch, sk, kv_heads, d), (batch, sk, kv_heads, dv)
    return [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]


def visible(
    batch: int, sq: int, sk: int, causal: bool, key_lengths: Any, query_lengths: Any, window: Any
) -> torch.Tensor:
    """Which keys each query sees, (batch, 1, Sq, Sk), straight from the definition."""
    lk = torch.tensor([sk] * batch if key_lengths is None else key_lengths)[:, None, None]
    lq = torch.tensor([sq] * batch if query_lengths is None else query_lengths)[:, None, None]
    i, j = torch.arange(sq)[:, None], torch.arange(sk)
    position = i + lk - lq
    seen = (j < lk) & (i < lq)
    if causal:
        seen = seen & (j <= position)
    if window is not None:
        left, right = (window - 1, window - 1) if isinstance(window, int) else window
        seen = seen & ((j >= position - left) if left >= 0 else seen)
        seen = seen & ((j <= position + right) if right >= 0 else seen)
    return seen[:, None]


def reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    key_lengths: Any = None,
    query_lengths: Any = None,
    window: Any = None,
    keep: torch.Tensor | None = None,
) -> torch.Tensor:
    """The formula with its whole matrix of scores; `keep` is what dropout multiplies by."""
    group = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(group, dim=2) for x in (k, v))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    seen = visible(q.shape[0], q.shape[1], k.shape[1], causal, key_lengths, query_lengths, window)
    scores = scores.masked_fill(~seen, -torch.inf)
    blind = (scores == -torch.inf).all(-1, keepdim=True)
    if keep is None and q.dtype != torch.float64:
        # The yardstick is torch's own fused kernel where it has one.
        mask = scores.new_zeros(()) if bias is None else bias.to(scores.dtype)
        mask = mask.masked_fill(~seen, -torch.inf).masked_fill(blind, 0).expand(scores.shape)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.masked_fill(blind, 0).transpose(1, 2)
    weights = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
    if keep is not None:
        weights = weights * keep.to(weights.dtype)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


def check(inputs: list[np.ndarray], dtype: str = "float32", **options: Any) -> None:
    def ours(q, k, v, bias=None):
        return attention(q, k, v, bias=bias, **options)

    check_op(ours, lambda *x: reference(*x, **options), inputs, dtype)
