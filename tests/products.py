"""Products straight from `_core.gemm`, of matrices that lie in memory in every way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from memory import spaced, transposed
from reference import TORCH_DTYPES, assert_as_good_as_torch, to_torch

import pymodel as pm
from pymodel import _core

DTYPES = ["float32", "bfloat16", "float16"]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def product(a: pm.Tensor, b: pm.Tensor, out_dtype: str | None = None, **options: Any) -> pm.Tensor:
    """A product into memory that holds NaN, none of which may be left or read."""
    c = pm.full((a.shape[0], b.shape[1]), float("nan"), dtype=out_dtype or a.dtype)
    _core.gemm(a._array, b._array, c._array, **options)
    return c


def check_product(a: pm.Tensor, b: pm.Tensor, dtype: str) -> None:
    same, exact = (
        to_torch(a.numpy(), t) @ to_torch(b.numpy(), t) for t in (TORCH_DTYPES[dtype], torch.float64)
    )
    assert_as_good_as_torch(product(a, b), same, exact, dtype)


# How a (rows, columns) matrix may lie in memory.
LAYOUTS: dict[str, Callable[[np.ndarray, str], pm.Tensor]] = {
    "rows dense": lambda x, dtype: pm.tensor(x, dtype=dtype),
    "columns dense": transposed,
    # one element further than 16 or 4 bytes would have it
    "rows misaligned": lambda x, dtype: pm.tensor(np.pad(x, ((0, 0), (1, 2))), dtype=dtype)[:, 1:-2],
    "columns misaligned": lambda x, dtype: pm.tensor(np.pad(x.T, ((0, 0), (1, 2))), dtype=dtype)[
        :, 1:-2
    ].transpose(0, 1),
    "no dimension dense": spaced,
    "one row for all": lambda x, dtype: pm.tensor(x[:1], dtype=dtype).expand(x.shape),
}
