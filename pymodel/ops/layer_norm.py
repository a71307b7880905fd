"""Layer normalisation with an optional fused residual addition."""

from __future__ import annotations

from typing import Any, overload

from pymodel import _core
from pymodel.autograd import ACCUMULATED, record, wants_grad
from pymodel.ops.arrays import copy_of, parameter_gradients
from pymodel.tensor import Tensor


@overload
def layer_norm(
    x: Tensor, weight: Tensor | None = ..., bias: Tensor | None = ..., eps: float = ...
) -> Tensor: ...
@overload
def layer_norm(
    x: Tensor, weight: Tensor | None = ..., bias: Tensor | None = ..., eps: float = ..., *, residual: Tensor
) -> tuple[Tensor, Tensor]: ...
def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
) -> Any:
    """Normalises the last dimension to mean 0 and variance 1, then scales and shifts it.

    y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias, with s = x + residual

    Args:
        x: (..., columns), float32, float16 or bfloat16. Statistics are float32 in every case.
        weight: (columns,) of x's dtype, or None for ones.
        bias: (columns,) of x's dtype, or None for zeros.
        eps: added to the biased variance.
        residual: (..., columns) like x, added before normalising in the same pass over memory.

    Returns: y of x's shape and dtype; with `residual` the pair (y, s).

    Raises: ValueError for shapes that do not fit, TypeError for other dtypes.

    Source: Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450.
    """
    return normalize("layer_norm", x, weight, bias, eps, residual)


def normalize(
    op: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, residual: Tensor | None
) -> Any:
    """What `layer_norm` and `rms_norm` share; only the former has means."""
    weight_array = None if weight is None else weight._array
    bias_array = None if bias is None else bias._array
    residual_array = None if residual is None else residual._array
    y, total, saved, mean, rstd = _core.layer_norm_forward(
        x._array, residual_array, weight_array, bias_array, eps, op == "layer_norm"
    )
    result = Tensor(y)
    outputs = (result,) if total is None else (result, Tensor(total))
    if wants_grad(x, residual, weight, bias):
        x_wanted, residual_wanted = x.requires_grad, residual is not None and residual.requires_grad

        # `dsum` is what reached the sum by itself, or x where there is no residual.
        def backward(dy: _core.Array | None, dsum: _core.Array | None) -> tuple[Any, ...]:
            if dy is None:  # only the sum was used
                return dsum, dsum, None, None
            dweight, dbias, accumulate = parameter_gradients(weight, bias)
            dx = _core.layer_norm_backward(
                dy, dsum, saved, weight_array, mean, rstd, dweight, dbias, accumulate
            )
            # Both branches of the addition share one gradient; each must own its memory.
            dresidual = (copy_of(dx) if x_wanted else dx) if residual_wanted else None
            if accumulate:
                dweight = None if dweight is None else ACCUMULATED
                dbias = None if dbias is None else ACCUMULATED
            return dx, dresidual, dweight, dbias

        record(op, outputs, (x, residual, weight, bias), backward, takes_so_far=residual is None)
    return result if residual is None else outputs
