"""layer_norm and rms_norm where device kernels take other paths: wide rows, odd places, many rows."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import shifted
from orders import run_under_orders
from reference import assert_as_good_as_torch, check_op, gradient_of

import pymodel as pm
from pymodel import ops


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
# The widest that a warp holds and one more; a whole block and one more (single elements, then packs).
@pytest.mark.parametrize("columns", [512, 513, 520, 4096, 4097, 8192, 8200])
def test_layer_norm_of_wide_rows(columns: int, dtype: str) -> None:
    def theirs(x, w, b, r):
        s = x + r
        return F.layer_norm(s, (columns,), w, b) * 0.5 + s

    def ours(x, w, b, r):
        y, s = ops.layer_norm(x, w, b, residual=r)
        return y * 0.5 + s

    check_op(
        ours,
        theirs,
        [draw(3, columns, seed=s) if s in (0, 3) else draw(columns, seed=s) for s in range(4)],
        dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("odd", range(5))  # which of x, weight, bias, gradient (or none) lies off 16 bytes
def test_layer_norm_of_tensors_off_the_16_byte_grid(odd: int, dtype: str) -> None:
    x, w, b, dy = draw(6, 64), draw(64), draw(64, seed=1), draw(6, 64, seed=2)
    values = [pm.tensor(v, dtype=dtype).numpy() for v in (x, w, b, dy)]
    placed = [shifted(v) if i == odd else pm.tensor(v) for i, v in enumerate(values)]
    leaves = [p.requires_grad_() for p in placed[:3]]
    out = ops.layer_norm(leaves[0], leaves[1], leaves[2])
    out.backward(placed[3])
    results = {}
    for kind in ({"float32": torch.float32, "float16": torch.float16}[dtype], torch.float64):
        theirs = [torch.tensor(v.astype(np.float64)).to(kind).requires_grad_() for v in values[:3]]
        y = F.layer_norm(theirs[0], (64,), theirs[1], theirs[2])
        y.backward(torch.tensor(values[3].astype(np.float64)).to(kind))
        results[kind] = [y, *(t.grad for t in theirs)]
    same, exact = results.values()
    for i, ours in enumerate([out, *map(gradient_of, leaves)]):
        assert_as_good_as_torch(ours, same[i], exact[i], dtype, f"result {i}")


@pytest.mark.parametrize("width", [70, 72])  # rows off the 16-byte grid, and on it
def test_layer_norm_of_rows_with_gaps(width: int) -> None:
    check_op(
        lambda x: ops.layer_norm(x[:, :64]),
        lambda x: F.layer_norm(x[:, :64], (64,)),
        [draw(9, width)],
        "float32",
    )


@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8)])
def test_normalisation_of_no_rows(op: str, shape: Sequence[int]) -> None:
    x = pm.zeros(shape, requires_grad=True)
    w = pm.ones((8,), requires_grad=True)
    y = getattr(ops, op)(x, w)
    y.sum().backward()
    assert y.shape == tuple(shape)
    assert gradient_of(x).shape == tuple(shape)
    assert (gradient_of(w).numpy() == 0).all()


# A warp a row with several rows a block; a block a row; rows too wide for registers.
@pytest.mark.parametrize("shape", [(13, 40), (5, 700), (3, 8300)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layer_norm_has_the_same_bits_in_every_order_of_threads(
    shape: tuple[int, int], dtype: str, device: str
) -> None:
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")

    def compute() -> list[np.ndarray]:
        x, r = (pm.tensor(draw(*shape, seed=s), dtype=dtype, requires_grad=True) for s in (0, 1))
        w, b = (pm.tensor(draw(shape[1], seed=s), dtype=dtype, requires_grad=True) for s in (2, 3))
        y, s = ops.layer_norm(x, w, b, residual=r)
        (y * s).sum().backward()
        return [y.numpy(), *(gradient_of(t).numpy() for t in (x, r, w, b))]

    run_under_orders(compute, seeds=2)
