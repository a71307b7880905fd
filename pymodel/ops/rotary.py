"""Rotary position embeddings: queries and keys turned by angles that grow with their position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymodel import _core
from pymodel.autograd import is_grad_enabled, record, wants_grad
from pymodel.ops.arrays import dense, element_name, integers
from pymodel.tensor import Tensor

Positions = Tensor | Sequence[int] | Sequence[Sequence[int]] | np.ndarray | None


def rotary(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Positions = None,
    *,
    interleaved: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Every head with pairs of its elements turned by the angles of its position.

    y1 = x1 cos - x2 sin,  y2 = x2 cos + x1 sin

    The score of a turned query and a turned key then depends on their contents and their distance.

    Args:
        x: (batch, seq, heads, head_dim), float32, float16 or bfloat16; the arithmetic is float32. Slices
            of a packed projection are read in place; only heads that do not lie densely are copied.
        cos, sin: (positions, rotary_dim / 2) float32, of the angles of each position; they get no gradient.
            Elements of a head from rotary_dim on pass through.
        positions: (seq,) or (batch, seq) int64 or int32, the row of cos and sin for each token; 0 to
            seq - 1 when not given.
        interleaved: pair i is (x[2i], x[2i + 1]), as in GPT-J, instead of (x[i], x[i + rotary_dim / 2]),
            as in GPT-NeoX, Llama and Hugging Face's `rotate_half`.
        inplace: write over x, which is returned. Not for a leaf that requires grad, nor for a tensor whose
            values another operation has saved for its backward.

    Returns: (batch, seq, heads, head_dim) of x's dtype.

    Raises: ValueError for shapes that do not fit, TypeError for other dtypes, RuntimeError for a leaf in
        place, IndexError for a position that is no row of cos and sin, naming it. A GPU, which is not
        waited for, makes zeros of what such a token would have turned, and the next call that waits raises.

    Source: Su et al., "RoFormer", arXiv:2104.09864; the arguments are those of flash-attention's
    apply_rotary_emb.
    """
    if inplace and x.requires_grad and x.is_leaf and is_grad_enabled():
        raise RuntimeError(
            "rotary: x is a leaf that requires grad, whose values must stay; leave inplace at False"
        )
    tables = cos._array, sin._array
    picked = _positions(x, positions)
    source = dense(x._array)
    out = x._array if inplace else source.empty_like()
    # Heads in place that do not lie densely are turned in the copy and brought back.
    target = source if inplace else out
    invalid = _core.rotary(source, target, *tables, picked, interleaved, False)
    if invalid >= 0:
        _raise_invalid(x, cos, picked, invalid)
    if target is not out:
        _core.copy(target, out)
    result = x if inplace else Tensor(out)
    if wants_grad(x):

        def backward(dy: _core.Array) -> _core.Array:
            incoming = dense(dy)
            dx = incoming.empty_like()
            _core.rotary(incoming, dx, *tables, picked, interleaved, True)
            return dx

        record("rotary", result, (x,), backward)
    return result


def _positions(x: Tensor, positions: Positions) -> _core.Array | None:
    """A position for every token of x, (batch, seq)."""
    if positions is None:
        return None
    array = integers(positions, x.device)
    if x.ndim == 4 and array.shape in (x.shape[1:2], (1, x.shape[1])):
        rows = array if array.ndim == 2 else array.unsqueeze(0)
        return rows.expand(x.shape[:2])
    return array


def _raise_invalid(x: Tensor, cos: Tensor, positions: _core.Array | None, token: int) -> None:
    last = cos.shape[0] - 1
    if positions is None:
        raise IndexError(
            f"rotary: x has {x.shape[1]} tokens, but cos and sin have rows for positions 0 to {last}; "
            "compute them for as many positions"
        )
    name = element_name("positions", token, positions.shape)
    value = int(Tensor(positions).numpy().reshape(-1)[token])
    raise IndexError(
        f"rotary: {name} is {value}, but cos and sin have rows for positions 0 to {last}; "
        "compute them for as many positions"
    )
