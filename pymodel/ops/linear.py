"""Affine maps and the two-layer perceptron of a Transformer, on gemm with fused epilogues."""

from __future__ import annotations

from typing import Any

from pymodel import _core
from pymodel.autograd import ACCUMULATED, accumulation_buffer, record, wants_grad
from pymodel.ops.arrays import rows
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
    _check("linear", x, weight, bias, transposed)
    _check_residual("linear", residual, x, weight.shape[1 if transposed else 0])
    x_rows = rows(x._array)
    w = weight._array if transposed else weight._array.permute([1, 0])
    recorded = wants_grad(x, weight, bias, residual)
    shape = [x_rows.shape[0], w.shape[1]]
    y = _core.empty(shape, x.dtype, x.device)
    pre = _core.empty(shape, x.dtype, x.device) if recorded and activation else None
    _core.gemm(
        x_rows,
        w,
        y,
        _array(bias),
        None if residual is None else rows(residual._array),
        pre,
        activation=activation or "none",
    )
    result = Tensor(y.reshape((*x.shape[:-1], shape[1])))
    if recorded:
        x_shape = x.shape

        def backward(dy: _core.Array) -> tuple[Any, ...]:
            dz = rows(dy)
            if pre is not None and activation is not None:
                product = pre.empty_like()
                _core.activation_backward(activation, pre, dz, product)
                dz = product
            dx = input_gradient(x, dz, w, x_shape)
            dweight = weight_gradient(weight, x_rows, dz, transposed)
            return dx, dweight, bias_gradient(bias, dz), dy

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
    _check("mlp", x, weight1, bias1, transposed, "weight1", "bias1")
    hidden_width = weight1.shape[1 if transposed else 0]
    if weight2.ndim != 2 or weight2.shape[0 if transposed else 1] != hidden_width:
        wanted = f"({hidden_width}, out)" if transposed else f"(out, {hidden_width})"
        raise ValueError(f"mlp: weight2 must have shape {wanted}, got {weight2.shape}")
    _check_residual("mlp", residual, x, weight2.shape[1 if transposed else 0])
    x_rows = rows(x._array)
    w1, w2 = (w._array if transposed else w._array.permute([1, 0]) for w in (weight1, weight2))
    count = x_rows.shape[0]
    recorded = wants_grad(x, weight1, bias1, weight2, bias2, residual)
    hidden = _core.empty([count, hidden_width], x.dtype, x.device)
    pre = hidden.empty_like() if recorded else None
    _core.gemm(x_rows, w1, hidden, _array(bias1), None, pre, activation=activation)
    y = _core.empty([count, w2.shape[1]], x.dtype, x.device)
    _core.gemm(hidden, w2, y, _array(bias2), None if residual is None else rows(residual._array))
    result = Tensor(y.reshape((*x.shape[:-1], w2.shape[1])))
    if recorded:
        x_shape = x.shape

        def backward(dy: _core.Array) -> tuple[Any, ...]:
            dy_rows = rows(dy)
            dweight2 = weight_gradient(weight2, hidden, dy_rows, transposed)
            dpre = hidden.empty_like()
            _core.gemm(
                dy_rows,
                w2.permute([1, 0]),
                dpre,
                preactivation=pre,
                activation=activation,
                activation_gradient=True,
            )
            dweight1 = weight_gradient(weight1, x_rows, dpre, transposed)
            dx = input_gradient(x, dpre, w1, x_shape)
            return (
                dx,
                dweight1,
                bias_gradient(bias1, dpre),
                dweight2,
                bias_gradient(bias2, dy_rows),
                dy,
            )

        record("mlp", result, (x, weight1, bias1, weight2, bias2, residual), backward)
    return result


def input_gradient(x: Tensor, dz: _core.Array, w: _core.Array, shape: tuple[int, ...]) -> _core.Array | None:
    """dx = dz w^T for z = x w, with w (in, out) in any strides."""
    if not x.requires_grad:
        return None
    dx = _core.empty([dz.shape[0], w.shape[0]], x.dtype, x.device)
    _core.gemm(dz, w.permute([1, 0]), dx)
    return dx.reshape(shape)


def weight_gradient(weight: Tensor, x: _core.Array, dz: _core.Array, transposed: bool) -> Any:
    """dweight = dz^T x, (out, in), or its transpose; added to `.grad` in place where there is one."""
    if not weight.requires_grad:
        return None
    buffer = accumulation_buffer(weight)
    target = _core.empty(weight.shape, weight.dtype, weight.device) if buffer is None else buffer
    left, right = (x, dz) if transposed else (dz, x)
    _core.gemm(left.permute([1, 0]), right, target, beta=0.0 if buffer is None else 1.0)
    return target if buffer is None else ACCUMULATED


def bias_gradient(bias: Tensor | None, dz: _core.Array) -> _core.Array | None:
    """dbias = sum of dz over the rows."""
    if bias is None or not bias.requires_grad:
        return None
    dbias = _core.empty(bias.shape, bias.dtype, bias.device)
    _core.reduce("sum", dz, dbias, [0])
    return dbias


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
