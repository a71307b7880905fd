"""Attention with its weights shown, and batches packed without their padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pymodel as pm
from pymodel.models.attention import attend, visible_keys
from pymodel.models.encoder_layout import EncoderLayout, encoder_layout

BATCH, LENGTH, HEADS, WIDTH = 3, 7, 4, 6
MASK = (np.arange(LENGTH) < np.array([7, 3, 5])[:, None]).astype(np.int64)
LEFT = MASK[:, ::-1].copy()


def projections(kv_heads: int = HEADS) -> list[pm.Tensor]:
    rng = np.random.default_rng(1)
    return [
        pm.tensor(rng.standard_normal((BATCH, LENGTH, heads, WIDTH)).astype(np.float32), requires_grad=True)
        for heads in (HEADS, kv_heads, kv_heads)
    ]


def gradient(x: pm.Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad.numpy()


def lengths(*values: int) -> pm.Tensor:
    return pm.tensor(np.array(values))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"window": (2, 1)},
    "causal window": {"causal": True, "window": 3},
    "key lengths": {"key_lengths": lengths(5, 0, 7)},
    "both lengths": {"causal": True, "query_lengths": lengths(5, 3, 7), "key_lengths": lengths(6, 3, 7)},
    "scale and bias": {
        "scale": 0.3,
        "bias": pm.tensor(np.linspace(-1, 1, 7, dtype=np.float32)[None, None, None]),
    },
}


@pytest.mark.parametrize("kv_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_attend_is_the_same_with_its_weights_shown(options: dict[str, Any], kv_heads: int):
    fused, shown = projections(kv_heads), projections(kv_heads)
    weights: list[pm.Tensor] = []
    expected, result = attend(*fused, **options), attend(*shown, weights=weights, **options)
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=0, atol=2e-6)
    assert weights[0].shape == (BATCH, HEADS, LENGTH, LENGTH)
    sums = weights[0].numpy().sum(-1)
    rules = {name: options.get(name) for name in ("query_lengths", "key_lengths", "window")}
    seen = visible_keys(LENGTH, LENGTH, options.get("causal", False), **rules)
    np.testing.assert_allclose(sums, np.broadcast_to(seen.any(-1), sums.shape), atol=1e-6)
    for x in (expected, result):
        (x * x).sum().backward()
    for ours, theirs in zip(shown, fused, strict=True):
        np.testing.assert_allclose(gradient(ours), gradient(theirs), rtol=0, atol=2e-5)


def packed(x: pm.Tensor, layout: EncoderLayout) -> pm.Tensor:
    flat = x.view(BATCH * LENGTH, x.shape[2] * WIDTH)
    return pm.ops.embedding(layout.place(np.arange(BATCH * LENGTH).reshape(BATCH, LENGTH)), flat).view(
        -1, x.shape[2], WIDTH
    )


def test_packed_attention_equals_padded_attention_and_so_do_gradients():
    layouts = [encoder_layout(BATCH, LENGTH, MASK, "cpu", padding_is_read=read) for read in (True, False)]
    assert [layout.packed for layout in layouts] == [False, True]
    bias = pm.tensor(np.random.default_rng(2).standard_normal((1, HEADS, LENGTH, LENGTH)).astype(np.float32))
    outputs, gradients = [], []
    for layout in layouts:
        qkv = projections()
        parts = [packed(x, layout) for x in qkv] if layout.packed else qkv
        mixed = layout.attend(*parts, bias=bias, scale=0.5)
        mixed = layout.padded(mixed.view(*mixed.shape[:-2], HEADS * WIDTH)) * pm.tensor(
            MASK[:, :, None].astype(np.float32)
        )
        (mixed * mixed).sum().backward()
        outputs.append(mixed.numpy())
        gradients.append([gradient(x) for x in qkv])
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=0, atol=2e-6)
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_layout_gathers_and_spreads():
    layout = encoder_layout(BATCH, LENGTH, MASK, "cpu", padding_is_read=False)
    places = np.arange(BATCH * LENGTH).reshape(BATCH, LENGTH)
    np.testing.assert_array_equal(layout.place(places).numpy(), places[MASK == 1])
    np.testing.assert_array_equal(layout.place(np.arange(LENGTH)[None]).numpy(), np.nonzero(MASK)[1])
    states = pm.tensor(places[MASK == 1].astype(np.float32)[:, None])
    np.testing.assert_array_equal(layout.padded(states).numpy()[..., 0], places * MASK)
    np.testing.assert_array_equal(layout.first_tokens(states).numpy()[:, 0], places[:, 0])


def test_layout_of_padding_on_the_left_is_a_bias():
    for read in (True, False):
        layout = encoder_layout(BATCH, LENGTH, LEFT, "cpu", padding_is_read=read)
        assert not layout.packed
        weights: list[pm.Tensor] = []
        layout.attend(*projections(), weights=weights)
        assert not (weights[0].numpy() * (LEFT[:, None, None] == 0)).any()


def test_layout_without_padding_is_plain_and_bad_masks_are_refused():
    layout = encoder_layout(BATCH, LENGTH, np.ones((BATCH, LENGTH)), "cpu", padding_is_read=False)
    assert not layout.packed
    assert layout.bias is None
    assert layout.key_lengths is None
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(3, 7\), got \(3, 6\)"):
        encoder_layout(BATCH, LENGTH, MASK[:, :6], "cpu")
    with pytest.raises(ValueError, match="attention_mask: the rows have unequal lengths"):
        encoder_layout(2, 2, [[1, 1], [1]], "cpu")
    with pytest.raises(ValueError, match="must hold 1 for tokens and 0 for padding"):
        encoder_layout(BATCH, LENGTH, MASK * 2, "cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int8, torch.float32])
def test_layout_takes_masks_of_other_libraries(dtype: torch.dtype):
    layout = encoder_layout(BATCH, LENGTH, torch.from_numpy(MASK).to(dtype), "cpu", padding_is_read=False)
    assert layout.kept is not None
    np.testing.assert_array_equal(layout.kept, np.flatnonzero(MASK))
