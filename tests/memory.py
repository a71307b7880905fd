"""Where tensors lie in memory, and tensors that lie in unusual places, on any device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import pymodel as pm


def span(x: pm.Tensor) -> tuple[int, int]:
    """The addresses of the first byte of a tensor with elements and of the one behind the last."""
    steps = sum((extent - 1) * stride for extent, stride in zip(x.shape, x.strides, strict=True))
    return x.data_ptr(), x.data_ptr() + (steps + 1) * (x.nbytes // x.numel())


def shares_memory(a: pm.Tensor, b: pm.Tensor) -> bool:
    """Whether the stretches of memory that two tensors lie in overlap."""
    if a.numel() == 0 or b.numel() == 0:
        return False
    (a_begin, a_end), (b_begin, b_end) = span(a), span(b)
    return a_begin < b_end and b_begin < a_end


def transposed(array: np.ndarray, dtype: str | None = None) -> pm.Tensor:
    """The values as a view whose first dimension is the dense one."""
    order = list(range(array.ndim))[::-1]
    return pm.Tensor(pm.tensor(array.transpose(order), dtype=dtype)._array.permute(order))


def spaced(array: np.ndarray, dtype: str | None = None) -> pm.Tensor:
    """The values as every second column of a wider tensor, the first of them one element in: no row
    starts at a multiple of 16 bytes, or next to another element."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 1), array.dtype)
    wide[..., 1::2] = array
    return pm.Tensor(pm.tensor(wide, dtype=dtype)._array.slice(array.ndim - 1, 1, wide.shape[-1], 2))


def shifted(array: np.ndarray, dtype: str | None = None, by: int = 1) -> pm.Tensor:
    """The values densely in memory, but starting `by` elements behind an aligned address."""
    flat = np.concatenate([np.zeros(by, array.dtype), array.reshape(-1)])
    view = pm.tensor(flat, dtype=dtype)._array.slice(0, by, flat.size, 1)
    return pm.Tensor(view.reshape(list(array.shape)))


Layout = Callable[..., pm.Tensor]  # (values, dtype=None)
LAYOUTS: dict[str, Layout] = {
    "dense": pm.tensor,
    "shifted": shifted,
    "spaced": spaced,
    "transposed": transposed,
}
