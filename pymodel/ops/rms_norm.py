"""RMS normalisation with an optional fused residual addition."""

from __future__ import annotations

from typing import Any, overload

from pymodel.ops.layer_norm import normalize
from pymodel.tensor import Tensor


@overload
def rms_norm(x: Tensor, weight: Tensor | None = ..., eps: float = ...) -> Tensor: ...
@overload
def rms_norm(
    x: Tensor, weight: Tensor | None = ..., eps: float = ..., *, residual: Tensor
) -> tuple[Tensor, Tensor]: ...
def rms_norm(
    x: Tensor, weight: Tensor | None = None, eps: float = 1e-6, *, residual: Tensor | None = None
) -> Any:
    """Divides the last dimension by its root mean square, then scales it.

    y = s / sqrt(mean(s^2) + eps) * weight, with s = x + residual

    Args:
        x: (..., columns), float32, float16 or bfloat16. The mean square is float32 in every case.
        weight: (columns,) of x's dtype, or None for ones.
        eps: added to the mean square.
        residual: (..., columns) like x, added before normalising in the same pass over memory.

    Returns: y of x's shape and dtype; with `residual` the pair (y, s).

    Raises: ValueError for shapes that do not fit, TypeError for other dtypes.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
    """
    return normalize("rms_norm", x, weight, None, eps, residual)
