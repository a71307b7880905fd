"""Attention of so few queries that the CPU takes its way for decoding, which reads keys where they lie."""

from typing import Any

import numpy as np
import pytest
import torch
from attention_reference import DTYPES, draw_qkv, reference
from reference import TORCH_DTYPES, assert_as_good_as_torch, to_torch

import pymodel as pm
from pymodel import ops

attention: Any = ops.attention


# (queries, keys, heads, key heads, d, dv): one key, keys that end within a vector, within a tile and beyond a
# range of keys, heads that share keys, and widths below, beside and above whole vectors.
CASES = [
    (1, 1, 2, 2, 8, 8),
    (1, 17, 3, 3, 7, 5),
    (2, 65, 4, 2, 24, 40),
    (3, 600, 6, 1, 64, 64),
    (4, 1100, 2, 2, 80, 130),
    (1, 1030, 1, 1, 128, 16),
]


def check(inputs: list[np.ndarray], dtype: str = "float32", **options: Any) -> None:
    """Forward alone: the way of decoding is for calls that no backward follows."""
    ours = [pm.tensor(x, dtype=dtype) for x in inputs]
    same = [to_torch(x.numpy(), TORCH_DTYPES[dtype]) for x in ours]
    assert_as_good_as_torch(
        attention(*ours, **options),
        reference(*same, **options),
        reference(*(x.to(torch.float64) for x in same), **options),
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_few_queries_match_torch(case: tuple[int, ...], causal: bool, dtype: str) -> None:
    check(draw_qkv(2, *case), dtype, causal=causal)


@pytest.mark.parametrize("window", [None, 3, (70, 2), (0, 0), (-1, 1), (530, -1)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_few_queries_with_masks(window: Any, causal: bool) -> None:
    inputs = draw_qkv(3, 4, 610, 4, 2, 16, 16)
    check(inputs, causal=causal, window=window)
    check(inputs, causal=causal, window=window, key_lengths=[608, 0, 130], query_lengths=[3, 4, 0])


def test_attention_few_queries_more_than_keys_see_nothing() -> None:
    check(draw_qkv(2, 4, 2, 2, 1, 8, 8), causal=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_few_queries_give_the_same_bits_for_any_number_of_threads(dtype: str) -> None:
    q, k, v = (pm.tensor(x, dtype=dtype) for x in draw_qkv(1, 2, 5000, 2, 1, 64, 64))
    before = pm.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            pm.set_num_threads(threads)
            results.append(attention(q, k, v, causal=True).numpy().astype(np.float32))
    finally:
        pm.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_attention_few_queries_of_sequences_that_lie_packed() -> None:
    lengths, keys = [1, 0, 3, 2], [700, 5, 40, 0]
    rng = np.random.default_rng(0)
    q = rng.standard_normal((6, 4, 32)).astype(np.float32)
    k, v = (rng.standard_normal((745, 2, 32)).astype(np.float32) for _ in range(2))
    cu_q, cu_k = np.cumsum([0, *lengths]), np.cumsum([0, *keys])
    packed = ops.attention_varlen(
        pm.tensor(q), pm.tensor(k), pm.tensor(v), cu_q, cu_k, 3, 700, causal=True
    ).numpy()
    for sequence in range(4):
        rows, columns = slice(*cu_q[sequence : sequence + 2]), slice(*cu_k[sequence : sequence + 2])
        parts = [pm.tensor(x[None]) for x in (q[rows], k[columns], v[columns])]
        alone = attention(*parts, causal=True).numpy()[0]
        np.testing.assert_array_equal(packed[rows], alone)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_few_queries_give_what_recorded_calls_give(dtype: str) -> None:
    q, k, v = (pm.tensor(x, dtype=dtype) for x in draw_qkv(2, 3, 200, 4, 2, 32, 32))
    alone = attention(q, k, v, causal=True, key_lengths=[200, 90]).numpy().astype(np.float32)
    recorded = attention(q.requires_grad_(), k, v, causal=True, key_lengths=[200, 90])
    assert recorded.requires_grad
    allowed = 1e-6 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(alone, recorded.numpy().astype(np.float32), atol=allowed)


def test_attention_few_queries_take_large_scores_and_keep_nan_in_its_row() -> None:
    q, k, v = (x.astype(np.float32) for x in draw_qkv(1, 2, 600, 2, 2, 16, 16))
    q[0, 0, 0, 0] = np.nan
    out = attention(pm.tensor(q * 1e4), pm.tensor(k), pm.tensor(v)).numpy()
    assert np.isnan(out[0, 0, 0]).all()
    out[0, 0, 0] = 0.0
    assert np.isfinite(out).all()
