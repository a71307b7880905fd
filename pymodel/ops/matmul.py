"""Matrix products of two tensors, batched and broadcast as in NumPy."""

from __future__ import annotations

from typing import Any, Literal

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.tensor import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product of the last two dimensions; earlier ones are broadcast.

    c[..., m, n] = sum over k of a[..., m, k] b[..., k, n]

    Args:
        a: (..., M, K) or (K,), float32, float16 or bfloat16.
        b: (..., K, N) or (K,) of a's dtype.

    Returns: (..., M, N) of that dtype, summed in float32; a vector operand loses its dimension, as in
    NumPy. Transposed and sliced operands are read in place.

    Raises: ValueError for extents that do not fit, TypeError for mixed or integer dtypes.
    """
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: operands need at least one dimension, got {a.shape} and {b.shape}")
    left = a._array.unsqueeze(0) if a.ndim == 1 else a._array
    right = b._array.unsqueeze(1) if b.ndim == 1 else b._array
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(
            f"matmul: the last dimension of a {a.shape} must equal the "
            f"{'only' if b.ndim == 1 else 'second last'} one of b {b.shape}"
        )
    full = multiply(left, right, _broadcast(a.shape, b.shape, left.shape[:-2], right.shape[:-2]))
    shape = list(full.shape)
    if b.ndim == 1:
        del shape[-1]
    if a.ndim == 1:
        del shape[-1 if b.ndim == 1 else -2]
    result = Tensor(full.reshape(shape))
    if wants_grad(a, b):
        a_shape, b_shape, full_shape = a.shape, b.shape, full.shape

        def backward(grad: _core.Array) -> tuple[Any, ...]:
            dc, batch = (
                grad.reshape(full_shape) if grad.contiguous else _dense(grad, full_shape),
                full_shape[:-2],
            )
            da = db = None
            if a.requires_grad:
                da = _reduce_batch(multiply(dc, _swap(right), batch), left.shape).reshape(a_shape)
            if b.requires_grad:
                db = _reduce_batch(multiply(_swap(left), dc, batch), right.shape).reshape(b_shape)
            return da, db

        record("matmul", result, (a, b), backward)
    return result


def set_float32_matmul_precision(precision: Literal["highest", "high"]) -> None:
    """Says how GPUs multiply float32 matrices from now on, in `matmul`, `linear` and `mlp`.

    The CPU always multiplies in float32.

    Args:
        precision: "highest", the default, multiplies in float32. "high" rounds both factors to tf32, which
            keeps 10 of the 23 bits of the mantissa, and sums in float32 on tensor cores: several times
            faster, with an error of at most about 2^-10 of the sum of |a b|.

    Raises: ValueError for other names.
    """
    if precision not in ("highest", "high"):
        raise ValueError(
            f"set_float32_matmul_precision: expected 'highest' (float32) or 'high' (tf32), got {precision!r}"
        )
    _core.set_tf32(precision == "high")


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was last given: "highest" or "high"."""
    return "high" if _core.tf32() else "highest"


def multiply(a: _core.Array, b: _core.Array, batch: tuple[int, ...]) -> _core.Array:
    """The products of two stacks of matrices whose leading dimensions broadcast to `batch`."""
    out = _core.empty([*batch, a.shape[-2], b.shape[-1]], a.dtype, a.device)
    _core.batched_gemm(a.expand([*batch, *a.shape[-2:]]), b.expand([*batch, *b.shape[-2:]]), out)
    return out


def _broadcast(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]
) -> tuple[int, ...]:
    count = max(len(a), len(b))
    pairs = zip((1,) * (count - len(a)) + a, (1,) * (count - len(b)) + b, strict=True)
    batch = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise ValueError(f"matmul: the leading dimensions of {a_shape} and {b_shape} do not broadcast")
        batch.append(y if x == 1 else x)
    return tuple(batch)


def _swap(array: _core.Array) -> _core.Array:
    return array.permute([*range(array.ndim - 2), array.ndim - 1, array.ndim - 2])


def _dense(array: _core.Array, shape: tuple[int, ...]) -> _core.Array:
    copy = array.empty_like()
    _core.copy(array, copy)
    return copy.reshape(shape)


def _reduce_batch(array: _core.Array, shape: tuple[int, ...]) -> _core.Array:
    """Sums over the leading dimensions along which an operand was broadcast."""
    extra = array.ndim - len(shape)
    dims = list(range(extra))
    dims += [i + extra for i, extent in enumerate(shape[:-2]) if extent == 1 and array.shape[i + extra] != 1]
    if not dims:
        return array
    out = _core.empty(shape, array.dtype, array.device)
    _core.reduce("sum", array, out.reshape([e for i, e in enumerate(array.shape) if i not in dims]), dims)
    return out
