"""Softmax where device kernels take other paths: long rows, odd places, one row beside another."""

import numpy as np
import pytest
import torch
from memory import shifted, spaced
from orders import run_under_orders
from reference import check_op, gradient_of

import pymodel as pm

PAIRS = {"softmax": (pm.ops.softmax, torch.softmax), "log_softmax": (pm.ops.log_softmax, torch.log_softmax)}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return 3 * np.random.default_rng([seed, *shape]).standard_normal(shape)


def forward_and_backward(op, x: pm.Tensor, dy: pm.Tensor, dim: int = -1) -> list[np.ndarray]:
    leaf = x.requires_grad_()
    y = op(leaf, dim)
    y.backward(dy)
    return [y.numpy(), gradient_of(leaf).numpy()]


# The last row of one warp, of two and of a block, each with the next; half of that in backward.
@pytest.mark.parametrize("classes", [512, 513, 1024, 1025, 16384, 16385, 32768, 32769])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_of_rows_that_just_fit(name, dtype, classes):
    ours, theirs = PAIRS[name]
    check_op(lambda x: ours(x), lambda x: theirs(x, -1), [draw(2, classes)], dtype)


# More classes than the threads that share a slice, fewer, and slices that end within a tile.
@pytest.mark.parametrize("shape", [(2, 3, 33), (3, 9, 31), (1, 200, 64), (5, 2, 2)])
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_across_memory(name, shape):
    ours, theirs = PAIRS[name]
    check_op(lambda x: ours(x, 1), lambda x: theirs(x, 1), [draw(*shape)], "float16")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("classes", [7, 40, 1030, 33000])
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_has_the_same_bits_wherever_rows_begin(name, classes, dtype):
    op = PAIRS[name][0]
    x, dy = (pm.tensor(draw(3, classes, seed=seed), dtype=dtype).numpy() for seed in (1, 2))
    expected = forward_and_backward(op, pm.tensor(x), pm.tensor(dy))
    for by in (1, 2, 3):
        results = forward_and_backward(op, shifted(x, by=by), shifted(dy, by=by + 1))
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, wanted)
    for row in range(3):  # a row by itself, at the beginning of an allocation
        results = forward_and_backward(op, pm.tensor(x[row : row + 1]), spaced(dy[row : row + 1]))
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result[0], wanted[row])


# A warp a row with several rows a block; a block a row; rows read twice; slices across memory.
@pytest.mark.parametrize(("shape", "dim"), [((7, 40), 1), ((3, 1100), 1), ((2, 33000), 1), ((2, 19, 40), 1)])
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_has_the_same_bits_in_every_order_of_threads(name, shape, dim, device):
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")
    x, dy = draw(*shape), draw(*shape, seed=1)

    def compute() -> list[np.ndarray]:
        leaf = pm.tensor(x, dtype="bfloat16")
        return forward_and_backward(PAIRS[name][0], leaf, pm.tensor(dy, dtype="bfloat16"), dim)

    run_under_orders(compute, seeds=2)
