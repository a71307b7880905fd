"""The global gradient norm, and clipping by it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pymodel import _core
from pymodel.tensor import Tensor


def grad_norm(params: Tensor | Iterable[Tensor]) -> float:
    """The Euclidean norm of all gradients taken as one vector, sqrt(sum of g^2), summed in float64.

    It is finite exactly when every gradient is, and its bits do not depend on the number of threads.

    Args:
        params: tensors whose `.grad` counts; those without one add nothing.

    Returns: the norm, 0.0 without gradients.
    """
    return float(_core.grad_norm(_gradients(params)))


def clip_coefficient(norm: float, max_norm: float) -> float:
    """The factor that brings gradients of this norm down to `max_norm`, at most 1.

    min(1, max_norm / (norm + 1e-6)), and NaN for a norm of NaN. Given to `Optimizer.step` as
    `grad_scale`, it clips without a pass over the gradients.

    Raises: ValueError for a negative max_norm.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_coefficient: max_norm must be at least 0, got {max_norm}")
    if math.isnan(norm):
        return math.nan
    return min(1.0, max_norm / (norm + 1e-6))


def clip_grad_norm_(
    params: Tensor | Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False
) -> float:
    """Scales all gradients, in place, so that their global norm is at most `max_norm`.

    Args:
        params: tensors whose `.grad` is clipped.
        max_norm: the largest norm that is left alone.
        error_if_nonfinite: raise when a gradient is infinite or NaN; otherwise they stay so.

    Returns: the norm before clipping.

    Raises: ValueError for a negative max_norm, RuntimeError as asked for.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    arXiv:1211.5063.
    """
    gradients = _gradients(params)
    norm: float = _core.grad_norm(gradients)
    coefficient = clip_coefficient(norm, max_norm)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the gradient norm is {norm}; a gradient is not finite")
    if coefficient != 1.0:
        _core.grad_scale(gradients, coefficient)
    return norm


def _gradients(params: Tensor | Iterable[Tensor]) -> list[_core.Array]:
    tensors = [params] if isinstance(params, Tensor) else params
    distinct = {id(t): t.grad._array for t in tensors if t.grad is not None}
    return list(distinct.values())
