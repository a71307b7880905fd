"""Affine maps and the two-layer perceptron of a Transformer, on gemm with fused epilogues."""

from __future__ import annotations

from typing import Any

from pymodel import _core
from pymodel.autograd import ACCUMULATED, accumulation_buffer, record, wants_grad
from pymodel.tensor import Tensor

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    residual: Tensor | None = None,
    transposed: bool = False,
) -> Tensor:
    """An affine map of the last dimension, with activation and residual in the same pass.

    y = f(x weight^T + bias) + residual

    Args:
        x: (..., in), float32, float16 or bfloat16; the other tensors have its dtype.
        weight: (out, in); with `transposed` (in, out), as GPT-2 checkpoints store it.
        bias: (out,) or None.
        activation: None, "relu", "gelu" (erf), "gelu_tanh", "silu", "tanh" or "sigmoid".
        residual: (..., out) or None, added last.

    Returns: (..., out) of x's dtype; sums run in float32.

    Raises: ValueError for shapes or an activation that do not fit, TypeError for mixed dtypes.
    """
    recorded = wants_grad(x, weight, bias, residual)
    save = recorded and activation is not None
    w = weight._array
    try:
        y, x_rows, pre = _core.linear(
            x._array, w, _array(bias), _array(residual), activation or "none", transposed, save
        )
    except (TypeError, ValueError):
        _check("linear", x, weight, bias, transposed)
        _check_residual("linear", residual, x, weight.shape[1 if transposed else 0])
        raise
    result = Tensor(y)
    if recorded:
        x_wanted = x.requires_grad

        def backward(dy: _core.Array) -> tuple[Any, ...]:
            dz = dy
            if pre is not None and activation is not None:
                dz = pre.empty_like()
                _core.activation_backward(activation, pre, _core.rows(dy), dz)
            like = dy if x_wanted else None
            return *affine_gradients(dz, x_rows, weight, bias, transposed, like), dy

        record("linear", result, (x, weight, bias, residual), backward)
    return result


def mlp(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    activation: str = "gelu_tanh",
    *,
    residual: Tensor | None = None,
    transposed: bool = False,
) -> Tensor:
    """The position-wise feed-forward network: two affine maps with an activation between them.

    y = f(x weight1^T + bias1) weight2^T + bias2 + residual

    The same as two calls of `linear`, but backward multiplies by f' inside the product that makes
    the hidden gradient, which saves a pass over the widest activations.

    Args:
        x: (..., in).
        weight1: (hidden, in); with `transposed` (in, hidden).  bias1: (hidden,) or None.
        weight2: (out, hidden); with `transposed` (hidden, out).  bias2: (out,) or None.
        activation: as in `linear`.
        residual: (..., out) or None, added last.

    Returns: (..., out) of x's dtype.

    Raises: as `linear`.

    Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.3.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"mlp: activation {activation!r} is unknown; expected one of {', '.join(ACTIVATIONS)}"
        )
    recorded = wants_grad(x, weight1, bias1, weight2, bias2, residual)
    w1, w2 = weight1._array, weight2._array
    try:
        hidden, x_rows, pre = _core.linear(
            x._array, w1, _array(bias1), None, activation, transposed, recorded
        )
        y, hidden, _ = _core.linear(hidden, w2, _array(bias2), _array(residual), "none", transposed, False)
    except (TypeError, ValueError):
        _check("mlp", x, weight1, bias1, transposed, "weight1", "bias1")
        hidden_width = weight1.shape[1 if transposed else 0]
        if weight2.ndim != 2 or weight2.shape[0 if transposed else 1] != hidden_width:
            wanted = f"({hidden_width}, out)" if transposed else f"(out, {hidden_width})"
            raise ValueError(f"mlp: weight2 must have shape {wanted}, got {weight2.shape}") from None
        _check_residual("mlp", residual, x, weight2.shape[1 if transposed else 0])
        raise
    result = Tensor(y)
    if recorded:
        x_wanted = x.requires_grad

        def backward(dy: _core.Array) -> tuple[Any, ...]:
            dpre, dweight2, dbias2 = affine_gradients(
                dy, hidden, weight2, bias2, transposed, hidden, activation, pre
            )
            like = dy if x_wanted else None
            dx, dweight1, dbias1 = affine_gradients(dpre, x_rows, weight1, bias1, transposed, like)
            return dx, dweight1, dbias1, dweight2, dbias2, dy

        record("mlp", result, (x, weight1, bias1, weight2, bias2, residual), backward)
    return result


def affine_gradients(
    dz: _core.Array,
    x: _core.Array,
    weight: Tensor,
    bias: Tensor | None,
    transposed: bool,
    like: _core.Array | None,
    activation: str = "none",
    preactivation: _core.Array | None = None,
) -> tuple[Any, Any, Any]:
    """The gradients of x, weight and bias of z = x weight^T + bias, for those that are wanted.

    dx = dz weight * f'(preactivation),  dweight = dz^T x,  dbias = sum of dz over the rows

    Where the weight has a `.grad`, dweight is added to it in place.

    Args:
        dz: (..., out).
        x: (rows, in).
        like: whose leading dimensions dx gets; None where dx is not wanted.
        activation: f, whose result x is, or "none".
        preactivation: (rows, in), what went into f, or None.
    """
    wanted = weight.requires_grad
    buffer = accumulation_buffer(weight) if wanted else None
    bias_wanted = bias is not None and bias.requires_grad
    dx, dweight, dbias = _core.linear_backward(
        dz, x, weight._array, transposed, like, activation, preactivation, wanted, buffer, bias_wanted
    )
    return dx, dweight if buffer is None else ACCUMULATED, dbias


def _array(tensor: Tensor | None) -> _core.Array | None:
    return None if tensor is None else tensor._array


def _check(
    op: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    transposed: bool,
    weight_name: str = "weight",
    bias_name: str = "bias",
) -> None:
    """What the gemm binding cannot say in the caller's words."""
    if x.ndim == 0:
        raise ValueError(f"{op}: x must have at least one dimension")
    width = x.shape[-1]
    if weight.ndim != 2 or weight.shape[0 if transposed else 1] != width:
        wanted = f"({width}, out)" if transposed else f"(out, {width})"
        raise ValueError(
            f"{op}: {weight_name} must have shape {wanted} to fit x of shape {x.shape}, got {weight.shape}"
        )
    out = weight.shape[1 if transposed else 0]
    if bias is not None and bias.shape != (out,):
        raise ValueError(f"{op}: {bias_name} must have shape ({out},), got {bias.shape}")
    for name, tensor in ((weight_name, weight), (bias_name, bias)):
        if tensor is not None and tensor.dtype != x.dtype:
            raise TypeError(
                f"{op}: {name} must be {x.dtype} like x, got {tensor.dtype}; "
                f'convert one with .to("{x.dtype}")'
            )


def _check_residual(op: str, residual: Tensor | None, x: Tensor, width: int) -> None:
    wanted = (*x.shape[:-1], width)
    if residual is not None and residual.shape != wanted:
        raise ValueError(f"{op}: residual must have shape {wanted}, got {residual.shape}")
