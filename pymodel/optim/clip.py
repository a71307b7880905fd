"""The global gradient norm, and clipping by it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import overload

from pymodel import _core
from pymodel.ops import minimum
from pymodel.tensor import Tensor


def grad_norm(params: Tensor | Iterable[Tensor]) -> float | Tensor:
    """The Euclidean norm of all gradients taken as one vector, sqrt(sum of g^2), summed in float64.

    It is finite exactly when every gradient is, and its bits do not depend on the number of threads.

    Args:
        params: tensors whose `.grad` counts; those without one add nothing.

    Returns: the norm, 0.0 without gradients. For gradients on a device it is a float32 tensor there, which
        is not waited for until it is read, with `float(norm)` for one.
    """
    return _norm(_gradients(params))


@overload
def clip_coefficient(norm: float, max_norm: float) -> float: ...
@overload
def clip_coefficient(norm: float | Tensor, max_norm: float) -> float | Tensor: ...
def clip_coefficient(norm: float | Tensor, max_norm: float) -> float | Tensor:
    """The factor that brings gradients of this norm down to `max_norm`, at most 1.

    min(1, max_norm / (norm + 1e-6)), and NaN for a norm that is not finite. Given to `Optimizer.step` as
    `grad_scale`, it clips without a pass over the gradients. For a tensor it is one too, on its device.

    Raises: ValueError for a negative max_norm.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_coefficient: max_norm must be at least 0, got {max_norm}")
    if isinstance(norm, Tensor):
        return minimum(max_norm / (norm + 1e-6), 1.0) + norm * 0.0  # infinity * 0 is NaN
    return min(1.0, max_norm / (norm + 1e-6)) if math.isfinite(norm) else math.nan


def clip_grad_norm_(
    params: Tensor | Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False
) -> float | Tensor:
    """Scales all gradients, in place, so that their global norm is at most `max_norm`.

    Args:
        params: tensors whose `.grad` is clipped.
        max_norm: the largest norm that is left alone.
        error_if_nonfinite: raise when a gradient is infinite or NaN, which waits for the device;
            otherwise all of them become NaN.

    Returns: the norm before clipping, as from `grad_norm`.

    Raises: ValueError for a negative max_norm, RuntimeError as asked for.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    arXiv:1211.5063.
    """
    gradients = _gradients(params)
    norm = _norm(gradients)
    coefficient = clip_coefficient(norm, max_norm)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the gradient norm is {float(norm)}; a gradient is not finite")
    if isinstance(coefficient, Tensor):
        _core.grad_scale(gradients, 1.0, coefficient._array)
    elif coefficient != 1.0:
        _core.grad_scale(gradients, coefficient, None)
    return norm


def _norm(gradients: list[_core.Array]) -> float | Tensor:
    norm = _core.grad_norm(gradients)
    return norm if isinstance(norm, float) else Tensor(norm)


def _gradients(params: Tensor | Iterable[Tensor]) -> list[_core.Array]:
    tensors = [params] if isinstance(params, Tensor) else params
    distinct = {id(t): grad._array for t in tensors if (grad := t.grad) is not None}
    return list(distinct.values())
