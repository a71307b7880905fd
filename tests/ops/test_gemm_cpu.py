"""How the CPU cuts, packs and splits a product, by shapes that meet every case (csrc/ops/gemm)."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from memory import transposed
from products import DTYPES, LAYOUTS, check_product, draw, product
from reference import assert_as_good_as_torch, to_float64, to_torch

import pymodel as pm
from pymodel import _core

pytestmark = pytest.mark.host_only("cuts of the CPU; devices have theirs in test_gemm.py")

# Where the CPU cuts a bfloat16 product for a matrix unit (csrc/ops/gemm/gemm_tile_plan.h).
TILE_SHAPES = [
    (32, 64, 96),  # whole panels: A is read in place
    (33, 47, 95),  # one row, 15 columns and 31 of k beyond whole panels
    (17, 16, 1),  # a row in the second tile, no column in it; half a pair of k
    (530, 70, 64),  # over one task's rows: B is packed for all; in place but for the last panel
    (40, 50, 4100),  # over one range of k: sums pass through memory
    (2060, 40, 34),  # over one block's rows
    (600, 2090, 33),  # over one block's columns
]


@pytest.mark.parametrize(("m", "n", "k"), TILE_SHAPES)
@pytest.mark.parametrize("right", ["rows dense", "columns dense"])
@pytest.mark.parametrize("left", ["rows dense", "columns dense", "no dimension dense"])
def test_gemm_cuts_tiles_of_any_shape(left: str, right: str, m: int, n: int, k: int) -> None:
    check_product(
        LAYOUTS[left](draw(m, k), "bfloat16"), LAYOUTS[right](draw(k, n, seed=1), "bfloat16"), "bfloat16"
    )


@pytest.mark.parametrize("out_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("m", "n", "k"), TILE_SHAPES)
def test_gemm_adds_tiles_to_what_is_there(m: int, n: int, k: int, out_dtype: str) -> None:
    a, b = transposed(draw(m, k), "bfloat16"), pm.tensor(draw(k, n, seed=1), dtype="bfloat16")
    c = pm.tensor(draw(m, n, seed=2), dtype=out_dtype)
    before = c.numpy().copy()
    _core.gemm(a._array, b._array, c._array, beta=1.0)
    same, exact = (
        to_torch(a.numpy(), t) @ to_torch(b.numpy(), t) + to_torch(before, t)
        for t in (torch.bfloat16, torch.float64)
    )
    assert_as_good_as_torch(c, same, exact, "bfloat16")


# Where it cuts one of float32, each element of which goes to the unit in three parts.
SPLIT_SHAPES = [
    (64, 4128, 64),  # whole panels; few rows: tasks pack their own columns
    (65, 3990, 67),  # one row, 22 columns and 3 of k beyond whole panels
    (300, 4200, 70),  # so many columns that tasks pack their own
    (530, 500, 70),  # so few that they fit into a cache: tasks pack their own rows
    (300, 1100, 200),  # neither: all is packed for all
    (270, 100, 1100),  # two ranges of k, whose sums are added
    (290, 600, 290),  # two ranges, so that the packed columns fit into a cache
    (2060, 140, 66),  # over one block's rows: columns stay packed
    (2080, 4200, 64),  # over one block's rows, with columns that tasks pack
    (270, 2090, 1100),  # over one block's columns
]


@pytest.mark.parametrize(("m", "n", "k"), SPLIT_SHAPES)
@pytest.mark.parametrize("right", ["rows dense", "columns dense", "no dimension dense"])
@pytest.mark.parametrize("left", ["rows dense", "columns dense", "no dimension dense"])
def test_gemm_splits_float32_of_any_shape(left: str, right: str, m: int, n: int, k: int) -> None:
    check_product(
        LAYOUTS[left](draw(m, k), "float32"), LAYOUTS[right](draw(k, n, seed=1), "float32"), "float32"
    )


@pytest.mark.parametrize(("m", "n", "k"), SPLIT_SHAPES)
def test_gemm_splits_float32_with_an_epilogue(m: int, n: int, k: int) -> None:
    a, b, bias, residual = draw(m, k), draw(k, n, seed=1), draw(n, seed=2), draw(m, n, seed=3)
    c = pm.tensor(draw(m, n, seed=4))
    before = c.numpy().copy()
    left, right, added, carried = (pm.tensor(x)._array for x in (a, b, bias, residual))
    _core.gemm(left, right, c._array, added, carried, beta=1.0, activation="gelu")
    same, exact = (
        torch.nn.functional.gelu(to_torch(a, t) @ to_torch(b, t) + to_torch(bias, t))
        + to_torch(residual, t)
        + to_torch(before, t)
        for t in (torch.float32, torch.float64)
    )
    assert_as_good_as_torch(c, same, exact, "float32")


def test_gemm_of_float32_keeps_its_bits_of_every_element() -> None:
    # 24 bits of mantissa, of which no sum of others may take any: held against the sum of magnitudes
    def wide(*shape: int, seed: int) -> np.ndarray:
        exponents = np.random.default_rng(seed).integers(-20, 20, shape)
        return (draw(*shape, seed=seed) * np.exp2(exponents)).astype(np.float32)

    for k in (64, 300, 2000):
        a, b = wide(200, k, seed=0), wide(k, 700, seed=1)
        exact, magnitude = to_float64(a) @ to_float64(b), np.abs(to_float64(a)) @ np.abs(to_float64(b))
        ours, theirs = (
            (np.abs(to_float64(c) - exact) / magnitude).max()
            for c in (product(pm.tensor(a), pm.tensor(b)), torch.tensor(a) @ torch.tensor(b))
        )
        assert ours <= 2 * theirs


@pytest.mark.parametrize(
    "scales", [(2.0**-110, 1.0), (2.0**127, 2.0**-20), (2.0**-100, 2.0**100), (2.0**-60, 2.0**-60)]
)
def test_gemm_of_float32_reaches_to_the_ends_of_the_range(scales: tuple[float, float]) -> None:
    a, b = (
        (np.clip(draw(*shape, seed=i), -1.9, 1.9) * scale).astype(np.float32)
        for i, (shape, scale) in enumerate(zip([(310, 140), (140, 410)], scales, strict=True))
    )
    truth = to_float64(a) @ to_float64(b)
    error = np.abs(to_float64(product(pm.tensor(a), pm.tensor(b))) - truth)
    assert (error <= 2.0**-20 * (np.abs(to_float64(a)) @ np.abs(to_float64(b)))).all()


@pytest.mark.parametrize("left", ["rows dense", "columns dense"])
@pytest.mark.parametrize("right", ["rows dense", "columns dense"])
def test_gemm_of_float32_takes_tiny_numbers_beside_others(left: str, right: str) -> None:
    # down to where a float32 has fewer than 24 bits; what the values far below of a GELU are like
    def with_tiny(*shape: int, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        tiny = random.random(shape) < 0.2
        return np.where(tiny, np.exp2(random.uniform(-149, -90, shape)), 1.0) * draw(*shape, seed=seed)

    a, b = with_tiny(310, 140, seed=2), with_tiny(140, 410, seed=3)
    truth = to_float64(LAYOUTS[left](a, "float32")) @ to_float64(LAYOUTS[right](b, "float32"))
    error = np.abs(to_float64(product(LAYOUTS[left](a, "float32"), LAYOUTS[right](b, "float32"))) - truth)
    assert (error <= 2.0**-20 * (np.abs(a) @ np.abs(b))).all()


@pytest.mark.parametrize("k", [140, 1300])
def test_gemm_of_float32_passes_on_infinities_and_nan(k: int) -> None:
    a, b = np.abs(draw(310, k)).astype(np.float32), np.abs(draw(k, 410, seed=1)).astype(np.float32)
    a[3, 5], a[70, 7], a[200, 9] = np.inf, -np.inf, np.nan
    b[11, 40], b[:, 350] = np.inf, 0.0
    result = product(pm.tensor(a), pm.tensor(b)).numpy()
    with np.errstate(invalid="ignore"):
        exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    np.testing.assert_array_equal(np.isposinf(result), np.isposinf(exact))
    np.testing.assert_array_equal(np.isneginf(result), np.isneginf(exact))
    finite = np.isfinite(exact)
    np.testing.assert_allclose(result[finite], exact[finite], rtol=1e-5)


# What the CPU packs of a product in panels, and how its threads share it (csrc/ops/gemm/gemm_blocked_cpu.h).
BLOCK_SHAPES = [
    (48, 64, 500),  # few rows: dense rows of B are read in place
    (50, 65, 300),  # but for the last, narrow strip
    (72, 600, 48),  # a small A is read in place however it lies
    (140, 90, 200),  # few columns: threads take rows of their own; dense rows of A are read in place
    (90, 600, 200),  # A is packed for all threads
    (1300, 100, 1100),  # two blocks of rows and of k
    (257, 8, 1024),  # where caches are small, a last block of fewer rows than threads have shares
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), BLOCK_SHAPES)
@pytest.mark.parametrize("right", ["rows dense", "columns dense"])
def test_gemm_packs_what_it_must(right: str, m: int, n: int, k: int, dtype: str) -> None:
    a, b = draw(m, k), LAYOUTS[right](draw(k, n, seed=1), dtype)
    results = []
    for left in ("rows dense", "columns dense", "no dimension dense"):
        check_product(LAYOUTS[left](a, dtype), b, dtype)
        results.append(product(LAYOUTS[left](a, dtype), b).numpy())
    for other in results[1:]:  # packed or in place: the same bits
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_of_a_stack_gives_the_same_bits_for_any_number_of_threads(dtype: str) -> None:
    threads, results = pm.get_num_threads(), []
    # one task of a tile each; many, in threads that have no others to help them
    stacks = [((6, 40, 70), (6, 70, 50)), ((6, 130, 40), (6, 40, 130)), ((4, 210, 200), (4, 200, 220))]
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            results.append(
                [
                    pm.ops.matmul(
                        pm.tensor(draw(*left), dtype=dtype), pm.tensor(draw(*right, seed=1), dtype=dtype)
                    ).numpy()
                    for left, right in stacks
                ]
            )
    finally:
        pm.set_num_threads(threads)
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_gives_the_same_bits_for_any_number_of_threads(dtype: str) -> None:
    threads, results = pm.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            results.append(
                [
                    product(
                        LAYOUTS[left](draw(m, k), dtype), LAYOUTS[right](draw(k, n, seed=1), dtype)
                    ).numpy()
                    for m, n, k in [*TILE_SHAPES, *SPLIT_SHAPES, *BLOCK_SHAPES, (3, 300, 200)]
                    for left, right in (("rows dense", "columns dense"), ("columns dense", "rows dense"))
                ]
            )
    finally:
        pm.set_num_threads(threads)
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


PRINT_BITS = """
import hashlib, numpy as np, pymodel as pm
from pymodel import _core
bits = hashlib.sha256()
for m, n, k in SHAPES:
    for dtype in DTYPES:
        random = np.random.default_rng(0)
        a, b = (pm.tensor(random.standard_normal(shape), dtype=dtype) for shape in ((m, k), (n, k)))
        c = pm.zeros((m, n), dtype=dtype)
        _core.gemm(a._array, b._array.permute([1, 0]), c._array)
        bits.update(c.numpy().tobytes())
print(bits.hexdigest())
"""


def test_gemm_gives_the_same_bits_for_any_cache() -> None:
    shapes = BLOCK_SHAPES + TILE_SHAPES + SPLIT_SHAPES
    source = PRINT_BITS.replace("SHAPES", repr(shapes)).replace("DTYPES", repr(DTYPES))
    bits = set()
    for cache in ("131072", "1048576", "16777216", "nonsense"):
        environment = {**os.environ, "PYMODEL_CPU_L2": cache}
        command = [sys.executable, "-c", source]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        bits.add(done.stdout)
    assert len(bits) == 1
