"""Rotary embeddings against the formula in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from memory import LAYOUTS, shifted
from orders import run_under_orders
from reference import check_op, gradient_of

import pymodel as pm

DTYPES = ["float32", "float16", "bfloat16"]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def tables(positions: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of the angles of RoFormer, in float32."""
    frequencies = 10000.0 ** (-np.arange(half) / max(half, 1))
    angles = np.outer(np.arange(positions), frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def turned(
    x: torch.Tensor, cos: Any, sin: Any, positions: Any = None, interleaved: bool = False
) -> torch.Tensor:
    """The formula, in x's dtype."""
    batch, length = x.shape[:2]
    rows = np.arange(length) if positions is None else np.asarray(positions)
    rows = np.broadcast_to(rows, (batch, length))
    c, s = (torch.tensor(table[rows]).to(x.dtype)[:, :, None] for table in (cos, sin))
    half = cos.shape[1]
    part, rest = x[..., : 2 * half], x[..., 2 * half :]
    first, second = (part[..., ::2], part[..., 1::2]) if interleaved else (part[..., :half], part[..., half:])
    turned_pairs = [first * c - second * s, second * c + first * s]
    joined = torch.stack(turned_pairs, -1).flatten(-2) if interleaved else torch.cat(turned_pairs, -1)
    return torch.cat([joined, rest], -1)


def check(
    shape: tuple[int, ...], half: int, dtype: str, interleaved: bool = False, positions: Any = None
) -> None:
    cos, sin = tables(60, half)
    check_op(
        lambda x: pm.ops.rotary(x, pm.tensor(cos), pm.tensor(sin), positions, interleaved=interleaved),
        lambda x: turned(x, cos, sin, positions, interleaved),
        [draw(*shape)],
        dtype,
    )


# (shape, rotary_dim / 2): one pair, heads narrower than a vector, of Llama's widths, of odd and of partial
# rotary widths, none of which is turned, more heads than a block's threads, one token, and nothing at all.
CASES = [
    ((1, 1, 1, 2), 1),
    ((2, 5, 3, 8), 4),
    ((2, 7, 2, 64), 32),
    ((1, 3, 4, 128), 64),
    ((3, 4, 5, 31), 15),
    ((2, 3, 2, 80), 16),
    ((2, 3, 2, 21), 7),
    ((2, 2, 3, 10), 0),
    ((1, 2, 300, 4), 2),
    ((5, 1, 7, 96), 48),
    ((0, 4, 2, 8), 4),
    ((2, 0, 2, 8), 4),
    ((2, 4, 0, 8), 4),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("shape", "half"), CASES, ids=str)
def test_rotary_matches_torch(shape: tuple[int, ...], half: int, interleaved: bool, dtype: str) -> None:
    check(shape, half, dtype, interleaved)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5)])
def test_rotary_at_given_positions(shape: tuple[int, ...], kind: Any) -> None:
    positions = np.random.default_rng(1).integers(0, 60, shape).astype(kind)
    check((3, 5, 2, 24), 8, "float32", positions=positions)
    check((3, 5, 2, 24), 12, "bfloat16", interleaved=True, positions=positions)


def test_rotary_takes_positions_of_any_kind() -> None:
    x, cos, sin = pm.tensor(draw(2, 3, 1, 8)), *map(pm.tensor, tables(9, 4))
    rows = np.array([[4, 0, 8], [1, 1, 2]])
    strided = pm.tensor(np.repeat(rows, 2, axis=1))[:, ::2]
    expected = pm.ops.rotary(x, cos, sin, rows).numpy()
    for positions in (rows.tolist(), pm.tensor(rows), pm.tensor(rows.T.copy()).permute(1, 0), strided):
        np.testing.assert_array_equal(pm.ops.rotary(x, cos, sin, positions).numpy(), expected)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rotary_of_any_layout(layout: str, dtype: str, interleaved: bool) -> None:
    values, dy = draw(2, 6, 3, 32), draw(2, 6, 3, 32, seed=1)
    cos, sin = map(pm.tensor, tables(6, 16))
    results = []
    for place in (pm.tensor, LAYOUTS[layout]):
        leaf = place(values, dtype=dtype).requires_grad_()
        y = pm.ops.rotary(leaf, cos, sin, interleaved=interleaved)
        y.backward(place(dy, dtype=dtype))
        results.append((y.numpy(), gradient_of(leaf).numpy()))
    for dense, other in zip(*results, strict=True):
        np.testing.assert_array_equal(other, dense)


def test_rotary_reads_tables_wherever_they_lie() -> None:
    x, (cos, sin) = pm.tensor(draw(2, 6, 3, 32)), tables(6, 16)
    expected = pm.ops.rotary(x, pm.tensor(cos), pm.tensor(sin)).numpy()
    wide = pm.tensor(np.concatenate([cos, sin], axis=1))
    np.testing.assert_array_equal(pm.ops.rotary(x, wide[:, :16], wide[:, 16:]).numpy(), expected)
    np.testing.assert_array_equal(pm.ops.rotary(x, shifted(cos), shifted(sin, by=3)).numpy(), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_of_parts_of_a_projection(interleaved: bool, dtype: str) -> None:
    """Queries and keys are slices of one tensor; what lies beside them stays as it is."""
    values = draw(2, 5, 7, 20)
    cos, sin = map(pm.tensor, tables(5, 8))
    packed = pm.tensor(values, dtype=dtype)
    before = packed.numpy().copy()
    part = packed[:, :, 2:6]
    expected = pm.ops.rotary(part, cos, sin, interleaved=interleaved).numpy()
    np.testing.assert_array_equal(packed.numpy(), before)
    with pm.no_grad():
        result = pm.ops.rotary(part, cos, sin, interleaved=interleaved, inplace=True)
    assert result is part
    np.testing.assert_array_equal(packed.numpy()[:, :, 2:6], expected)
    for beside in (slice(0, 2), slice(6, 7)):
        np.testing.assert_array_equal(packed.numpy()[:, :, beside], before[:, :, beside])


def test_rotary_in_place_of_heads_that_do_not_lie_densely() -> None:
    values, (cos, sin) = draw(2, 5, 3, 8), map(pm.tensor, tables(5, 4))
    expected = pm.ops.rotary(pm.tensor(values), cos, sin).numpy()
    wide = pm.tensor(np.repeat(values, 2, axis=3))
    assert pm.ops.rotary(wide[..., ::2], cos, sin, inplace=True).shape == (2, 5, 3, 8)
    np.testing.assert_array_equal(wide.numpy()[..., ::2], expected)
    np.testing.assert_array_equal(wide.numpy()[..., 1::2], values.astype(np.float32))


def test_rotary_in_place_passes_gradients_on() -> None:
    values, (cos, sin) = draw(2, 5, 3, 8), tables(5, 4)
    check_op(
        lambda x: pm.ops.rotary(x * 2.0, pm.tensor(cos), pm.tensor(sin), inplace=True) * 3.0,
        lambda x: turned(x * 2.0, cos, sin) * 3.0,
        [values],
        "float32",
    )


def test_rotary_keeps_scores_of_equal_distances() -> None:
    query, key = (np.repeat(draw(1, 1, 1, 16, seed=seed), 9, axis=1) for seed in (1, 2))
    cos, sin = map(pm.tensor, tables(9, 8))
    q, k = (pm.ops.rotary(pm.tensor(x), cos, sin).numpy()[0, :, 0] for x in (query, key))
    scores = q @ k.T
    for distance in range(-8, 9):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_has_the_same_bits_in_every_order_of_threads(interleaved: bool, device: str) -> None:
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")
    values, (cos, sin) = draw(2, 9, 5, 40), map(pm.tensor, tables(9, 16))

    def compute() -> list[np.ndarray]:
        x = pm.tensor(values, dtype="bfloat16")
        out = pm.ops.rotary(x, cos, sin, interleaved=interleaved).numpy()
        return [out, pm.ops.rotary(x, cos, sin, interleaved=interleaved, inplace=True).numpy()]

    separate, in_place = run_under_orders(compute, seeds=1)
    np.testing.assert_array_equal(in_place, separate)


def test_rotary_names_the_position_that_is_no_row() -> None:
    x, cos, sin = pm.zeros((2, 3, 1, 8)), *map(pm.tensor, tables(6, 4))
    with pytest.raises(IndexError, match=r"rotary: positions\[1, 2\] is 6, .* rows for positions 0 to 5"):
        pm.ops.rotary(x, cos, sin, [[0, 1, 2], [0, 5, 6]])
    with pytest.raises(IndexError, match=r"rotary: positions\[0, 1\] is -1"):
        pm.ops.rotary(x, cos, sin, [0, -1, 2])
    with pytest.raises(IndexError, match=r"rotary: x has 7 tokens, but .* rows for positions 0 to 5"):
        pm.ops.rotary(pm.zeros((2, 7, 1, 8)), cos, sin)


def test_rotary_names_what_is_wrong() -> None:
    x, cos, sin = pm.zeros((2, 3, 1, 8)), *map(pm.tensor, tables(6, 4))
    with pytest.raises(ValueError, match="rotary: x must have 4 dimensions"):
        pm.ops.rotary(pm.zeros((3, 1, 8)), cos, sin)
    with pytest.raises(TypeError, match="rotary: x must be float32"):
        pm.ops.rotary(pm.zeros((2, 3, 1, 8), "int64"), cos, sin)
    with pytest.raises(TypeError, match="rotary: cos must be float32, got bfloat16"):
        pm.ops.rotary(x, cos.bfloat16(), sin)
    with pytest.raises(ValueError, match=r"rotary: sin must have shape \(6, 4\), got \(5, 4\)"):
        pm.ops.rotary(x, cos, sin[:5])
    with pytest.raises(ValueError, match=r"turn 10 elements of a head, .* but x has heads of 8"):
        pm.ops.rotary(x, *map(pm.tensor, tables(6, 5)))
    with pytest.raises(ValueError, match=r"rotary: positions must have shape \(2, 3\), got \(2,\)"):
        pm.ops.rotary(x, cos, sin, [0, 1])
    with pytest.raises(TypeError, match="rotary: positions must be int64 or int32, got float32"):
        pm.ops.rotary(x, cos, sin, pm.zeros((3,)))
    with pytest.raises(RuntimeError, match="rotary: x is a leaf that requires grad"):
        pm.ops.rotary(pm.zeros((2, 3, 1, 8), requires_grad=True), cos, sin, inplace=True)
    with pytest.raises(ValueError, match="rotary: cannot write to an expanded view"):
        pm.ops.rotary(pm.zeros((1, 3, 1, 8)).expand(2, 3, 1, 8), cos, sin, inplace=True)
