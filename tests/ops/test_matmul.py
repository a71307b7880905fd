"""matmul against torch: vectors, matrices, broadcast stacks and transposed operands."""

import numpy as np
import pytest
import torch
from reference import check_op

import pymodel as pm
from pymodel import ops


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 7), (7, 9)),
        ((7,), (7,)),  # a scalar
        ((7,), (7, 9)),
        ((5, 7), (7,)),
        ((2, 3, 5, 7), (2, 3, 7, 4)),
        ((2, 1, 5, 7), (3, 7, 4)),  # both broadcast
        ((5, 7), (6, 7, 4)),  # a added dimension
        ((4, 0, 7), (7, 3)),  # empty
    ],
)
def test_matmul_matches_torch(a: tuple[int, ...], b: tuple[int, ...], dtype: str) -> None:
    check_op(ops.matmul, torch.matmul, [draw(*a), draw(*b, seed=1)], dtype)


def test_matmul_reads_transposed_operands() -> None:
    check_op(
        lambda x, y: ops.matmul(x.transpose(0, 1), y.transpose(-1, -2)),
        lambda x, y: torch.matmul(x.transpose(0, 1), y.transpose(-1, -2)),
        [draw(30, 20), draw(17, 30)],
        "float32",
    )


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1030, 49, 20), (9, 1600, 300), (33, 17, 1100)],  # each crosses one block of the cache hierarchy
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matmul_crosses_blocks(m: int, n: int, k: int, dtype: str) -> None:
    check_op(ops.matmul, torch.matmul, [draw(m, k), draw(k, n)], dtype, grad=False)


def test_matmul_names_what_does_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"last dimension of a \(2, 3\) must equal the second last one of b \(4, 5\)"
    ):
        ops.matmul(pm.zeros((2, 3)), pm.zeros((4, 5)))
    with pytest.raises(ValueError, match="do not broadcast"):
        ops.matmul(pm.zeros((2, 3, 4)), pm.zeros((5, 4, 3)))
    with pytest.raises(TypeError, match="float32"):
        ops.matmul(pm.zeros((2, 3)), pm.zeros((3, 2), dtype="bfloat16"))
    with pytest.raises(TypeError, match="int64"):
        ops.matmul(pm.zeros((2, 3), dtype="int64"), pm.zeros((3, 2), dtype="int64"))
