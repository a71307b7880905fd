"""Fused scaled dot-product attention, forward and backward, without a matrix of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.device import get_default_device
from pymodel.ops.arrays import contiguous, dense, integers
from pymodel.random import next_offset
from pymodel.tensor import Tensor

Lengths = Tensor | Sequence[int] | np.ndarray | None
Window = int | tuple[int, int] | None


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    scale: float | None = None,
    *,
    key_lengths: Lengths = None,
    query_lengths: Lengths = None,
    window: Window = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Every query's average of the values, weighted by how well their keys match it.

    out = dropout(softmax(scale * q k^T + bias)) v, over the keys that a query sees

    With Lq and Lk the lengths of a sequence, query i stands at position p = i + Lk - Lq of the keys: the
    last query sees the last key ("bottom right" alignment, as in flash-attention). A query that sees no
    key, or lies beyond its query length, gives zeros and takes no gradient.

    Args:
        q: (batch, Sq, heads, head_dim), float32, float16 or bfloat16. Sums are float32 in every case.
            Slices of a packed projection are read in place; only a head_dim that does not lie densely
            in memory is copied.
        k: (batch, Sk, kv_heads, head_dim) of q's dtype; heads is a multiple of kv_heads, and neighbouring
            query heads share a key head (grouped-query and multi-query attention).
        v: (batch, Sk, kv_heads, value_dim) of q's dtype; value_dim may differ from head_dim.
        causal: query i sees keys j <= p only.
        scale: of the scores; 1 / sqrt(head_dim) when not given.
        key_lengths: (batch,) int32 or int64, Lk: keys from there on are padding. All Sk when not given.
        query_lengths: (batch,) int32 or int64, Lq, the same for queries.
        window: (left, right), both inclusive as in flash-attention: a query sees p - left <= j <= p + right;
            -1 is no bound. An int w stands for (w - 1, w - 1): with causal, the w latest keys.
        bias: added to the scores, of q's dtype or float32; (batch, heads, Sq, Sk), where batch, heads and
            Sq may be 1 and leading dimensions may be left out. -inf hides a key. Its gradient is summed
            over what shared it.
        dropout_p: probability of dropping a weight after the softmax; survivors grow by 1 / (1 - p). Which
            ones depends on the seed, the call and (batch, head, i, j) alone.

    Returns: (batch, Sq, heads, value_dim) of q's dtype.

    Raises: ValueError for shapes, lengths or values that do not fit, TypeError for other dtypes.

    Source: Dao, "FlashAttention-2", arXiv:2307.08691; Milakov and Gimelshein, "Online normalizer
    calculation for softmax", arXiv:1805.02867; Ainslie et al., "GQA", arXiv:2305.13245.
    """
    arrays = [dense(x._array) for x in (q, k, v)]
    options = _options(_head_dim(q), causal, scale, window, dropout_p)
    call, bias_array = _call(arrays, bias, query_lengths, key_lengths, options)
    out, lse = _core.attention_forward(call, wants_grad(q, k, v, bias))
    return _recorded("attention", call, (q, k, v), out, lse, bias, bias_array)


def attention_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor | Sequence[int] | np.ndarray,
    cu_seqlens_k: Tensor | Sequence[int] | np.ndarray,
    max_seqlen_q: int,
    max_seqlen_k: int,
    causal: bool = False,
    scale: float | None = None,
    *,
    window: Window = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention within each of several sequences that lie packed, one after the other, without padding.

    out[a:b] = attention(q[a:b], k[c:d], v[c:d], ...) for each sequence i, with a, b = cu_seqlens_q[i : i + 2]
    and c, d = cu_seqlens_k[i : i + 2]

    Args:
        q: (total_q, heads, head_dim), float32, float16 or bfloat16: the queries of all sequences.
        k: (total_k, kv_heads, head_dim) of q's dtype; heads is a multiple of kv_heads.
        v: (total_k, kv_heads, value_dim) of q's dtype.
        cu_seqlens_q: (sequences + 1,) int32 or int64, from 0 to total_q: where each sequence begins and the
            last one ends. Empty sequences may be among them. Kernels read them where they lie: on a GPU
            the host waits for nothing.
        cu_seqlens_k: (sequences + 1,), the same for keys, from 0 to total_k.
        max_seqlen_q, max_seqlen_k: at least the lengths of the longest sequences.
        bias: added to the scores; (sequences, heads, max_seqlen_q, max_seqlen_k), positions counted within
            their sequence, where leading extents may be 1 or left out.
        causal, scale, window, dropout_p: as in `attention`.

    Returns: (total_q, heads, value_dim) of q's dtype.

    Raises: ValueError for shapes, offsets or values that do not fit, TypeError for other dtypes. Offsets on a
    GPU are looked at by the kernel, and reported when the host next waits for it.

    Source: the name and the packing are flash-attention's flash_attn_varlen_func.
    """
    bias_array = _bias_array(bias)
    call = _core.AttentionCall.packed(
        dense(q._array),
        dense(k._array),
        dense(v._array),
        bias_array,
        integers(cu_seqlens_q, q.device),
        integers(cu_seqlens_k, q.device),
        max_seqlen_q,
        max_seqlen_k,
        *_options(_head_dim(q), causal, scale, window, dropout_p),
        *_draw(dropout_p),
    )
    out, lse = _core.attention_forward(call, wants_grad(q, k, v, bias))
    return _recorded("attention_varlen", call, (q, k, v), out, lse, bias, bias_array)


def attention_qkvpacked(
    qkv: Tensor,
    causal: bool = False,
    scale: float | None = None,
    *,
    heads: int | None = None,
    lengths: Lengths = None,
    window: Window = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Self-attention on one tensor that holds queries, keys and values side by side.

    out = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], ...); backward writes one packed gradient, so
    nothing is split or joined again.

    Args:
        qkv: (batch, seq, 3, heads, head_dim), or with `heads` (batch, seq, 3 * heads * head_dim), as the
            joint projection of GPT-2 makes it.
        heads: how many lie side by side in the last dimension of qkv, and of the result.
        lengths: (batch,) int32 or int64: positions from there on are padding.
        causal, scale, window, bias, dropout_p: as in `attention`.

    Returns: (batch, seq, heads, head_dim), or with `heads` (batch, seq, heads * head_dim), of qkv's dtype.

    Raises: as `attention`.

    Source: the name and layout are flash-attention's flash_attn_qkvpacked_func.
    """
    shape = qkv.shape
    packed, head_dim = _packed_heads(qkv, shape, heads)
    options = _options(head_dim, causal, scale, window, dropout_p)
    bias_array = _bias_array(bias)
    length_array = None if lengths is None else integers(lengths, qkv.device)
    call = _core.AttentionCall.qkv(packed, bias_array, length_array, *options, *_draw(dropout_p))
    recorded = wants_grad(qkv, bias)
    out, lse = _core.attention_forward(call, recorded)
    result = Tensor(out if heads is None else out.reshape([*shape[:2], shape[2] // 3]))
    if recorded:
        wanted = qkv.requires_grad

        def backward(dout: _core.Array) -> tuple[Any, ...]:
            dqkv = _core.attention_backward_qkv(call, out, dout, lse).reshape(shape) if wanted else None
            return dqkv, _bias_gradient(call, out, dout, lse, bias, bias_array)

        record("attention_qkvpacked", result, (qkv, bias), backward)
    return result


def attention_dropout_mask(
    batch: int, heads: int, queries: int, keys: int, dropout_p: float, seed: int, offset: int
) -> Tensor:
    """Which weights `attention` keeps under a seed and an offset, to check it against other code.

    The mask is drawn on the default device; all draw the same.

    Args:
        batch, heads, queries, keys: the extents of the scores.
        dropout_p: probability of dropping.
        seed, offset: what `pymodel.random.next_offset` gave for the call.

    Returns: (batch, heads, queries, keys) bool, true where a weight stays.
    """
    mask = _core.empty([batch, heads, queries, keys], "bool", get_default_device())
    _core.attention_dropout_mask(mask, dropout_p, seed, offset)
    return Tensor(mask)


def _packed_heads(qkv: Tensor, shape: tuple[int, ...], heads: int | None) -> tuple[_core.Array, int]:
    """(batch, seq, 3, heads, head_dim), checked, and head_dim."""
    if heads is None:
        if len(shape) != 5 or shape[2] != 3:
            raise ValueError(
                f"attention_qkvpacked: qkv must have shape (batch, seq, 3, heads, head_dim), got {shape}"
            )
        return dense(qkv._array), shape[-1]
    if len(shape) != 3 or heads < 1 or shape[2] % (3 * heads):
        raise ValueError(
            f"attention_qkvpacked: qkv must have shape (batch, seq, 3 * heads * head_dim) for {heads} heads, "
            f"got {shape}"
        )
    head_dim = shape[2] // (3 * heads)
    return contiguous(qkv._array).reshape([*shape[:2], 3, heads, head_dim]), head_dim


def _options(
    head_dim: int, causal: bool, scale: float | None, window: Window, dropout_p: float
) -> tuple[float, int, int, float]:
    """Scale, window and dropout as the kernel takes them."""
    left, right = -1, -1
    if isinstance(window, int):
        if window < 1:
            raise ValueError(f"attention: window must be at least 1, got {window}; None means no window")
        left, right = window - 1, window - 1
    elif window is not None:
        left, right = (int(bound) for bound in window)
        if left < -1 or right < -1:
            raise ValueError(f"attention: window bounds must be at least 0, or -1 for none, got {window}")
    if causal:
        right = 0
    if scale is None:
        scale = max(head_dim, 1) ** -0.5
    return float(scale), left, right, float(dropout_p)


def _head_dim(q: Tensor) -> int:
    return q.shape[-1] if q.ndim else 1  # the binding names what is wrong with its shape


def _call(
    arrays: list[_core.Array],
    bias: Tensor | None,
    query_lengths: Lengths,
    key_lengths: Lengths,
    options: tuple[float, int, int, float],
) -> tuple[_core.AttentionCall, _core.Array | None]:
    """The checked arguments, and the bias with its four dimensions."""
    bias_array = _bias_array(bias)
    q, k, v = arrays
    queries = None if query_lengths is None else integers(query_lengths, q.device)
    keys = None if key_lengths is None else integers(key_lengths, q.device)
    call = _core.AttentionCall(q, k, v, bias_array, queries, keys, *options, *_draw(options[-1]))
    return call, bias_array


def _bias_array(bias: Tensor | None) -> _core.Array | None:
    """The bias with its four dimensions."""
    array = None if bias is None else bias._array
    while array is not None and array.ndim < 4:
        array = array.unsqueeze(0)
    return None if array is None else dense(array)


def _draw(dropout_p: float) -> tuple[int, int]:
    """The seed and the offset of a call."""
    return next_offset() if dropout_p > 0 else (0, 0)


def _recorded(
    name: str,
    call: _core.AttentionCall,
    inputs: tuple[Tensor, Tensor, Tensor],
    out: _core.Array,
    lse: _core.Array,
    bias: Tensor | None,
    bias_array: _core.Array | None,
) -> Tensor:
    """The output of q, k and v, with its backward."""
    result = Tensor(out)
    if wants_grad(*inputs, bias):

        def backward(dout: _core.Array) -> tuple[Any, ...]:
            wanted = [x._array.empty_like() if x.requires_grad else None for x in inputs]
            if any(gradient is not None for gradient in wanted):
                _core.attention_backward(call, out, dout, lse, *wanted)
            return *wanted, _bias_gradient(call, out, dout, lse, bias, bias_array)

        record(name, result, (*inputs, bias), backward)
    return result


def _bias_gradient(
    call: _core.AttentionCall,
    out: _core.Array,
    dout: _core.Array,
    lse: _core.Array,
    bias: Tensor | None,
    bias_array: _core.Array | None,
) -> _core.Array | None:
    if bias is None or bias_array is None or not bias.requires_grad:
        return None
    dbias = bias_array.empty_like()
    _core.attention_bias_gradient(call, out, dout, lse, dbias)
    return dbias.reshape(list(bias.shape))
