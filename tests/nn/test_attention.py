"""Multi-head attention against torch, from its parameters on."""

import numpy as np
import pytest
import torch
from reference import assert_as_good_as_torch, to_torch

import pymodel as pm
from pymodel import nn

BATCH, LENGTH, CONTEXT, WIDTH = 2, 7, 5, 24


def reference(module: nn.MultiHeadAttention, x, context, mask, precision: torch.dtype):
    """Output and gradients (x, then parameters by name), written with torch's own attention."""
    weights = {k: to_torch(v.numpy(), precision).requires_grad_() for k, v in module.state_dict().items()}
    x = to_torch(x, precision).requires_grad_()
    linear = torch.nn.functional.linear
    heads, kv_heads, width = module.num_heads, module.num_kv_heads, module.head_dim
    counts = [heads, kv_heads, kv_heads]
    if context is None:
        packed = linear(x, weights["qkv_proj.weight"], weights.get("qkv_proj.bias"))
        parts = packed.split([count * width for count in counts], -1)
    else:
        q = linear(x, weights["q_proj.weight"], weights.get("q_proj.bias"))
        packed = linear(to_torch(context, precision), weights["kv_proj.weight"], weights.get("kv_proj.bias"))
        parts = (q, *packed.chunk(2, -1))
    q, k, v = (
        part.unflatten(-1, (count, width)).transpose(1, 2) for part, count in zip(parts, counts, strict=True)
    )
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, None if mask is None else torch.tensor(mask), enable_gqa=True
    )
    y = linear(mixed.transpose(1, 2).flatten(2), weights["out_proj.weight"], weights.get("out_proj.bias"))
    y.backward(torch.ones_like(y) / 3)
    return {"output": y, "x": x.grad, **{name: w.grad for name, w in weights.items()}}


@pytest.mark.parametrize(
    ("options", "padded"),
    [
        ({"num_heads": 3}, False),
        ({"num_heads": 4, "causal": True, "bias": False}, False),
        ({"num_heads": 4, "num_kv_heads": 2, "causal": True}, False),
        ({"num_heads": 6, "num_kv_heads": 1, "head_dim": 5}, True),
        ({"num_heads": 2, "context_dim": 10}, False),
        ({"num_heads": 4, "num_kv_heads": 2, "context_dim": 10}, True),
        ({"num_heads": 2, "causal": True, "window": 3}, False),
    ],
    ids=str,
)
def test_multi_head_attention_follows_torch(options: dict, padded: bool):
    pm.manual_seed(0)
    module = nn.MultiHeadAttention(WIDTH, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32)
    context = None
    if "context_dim" in options:
        context = rng.standard_normal((BATCH, CONTEXT, 10)).astype(np.float32)
    keys = LENGTH if context is None else CONTEXT
    mask = np.ones((BATCH, 1, LENGTH, keys), bool)
    if module.causal:
        mask &= np.tril(np.ones((LENGTH, keys), bool))
    if "window" in options:
        mask &= np.triu(np.ones((LENGTH, keys), bool), 1 - options["window"])
    lengths = np.array([keys, 3], np.int64) if padded else None
    if lengths is not None:
        mask &= (np.arange(keys) < lengths[:, None])[:, None, None]
    leaf = pm.tensor(x, requires_grad=True)
    key_lengths = None if lengths is None else pm.tensor(lengths)
    y = module(leaf, None if context is None else pm.tensor(context), key_lengths=key_lengths)
    y.backward(pm.full(y.shape, 1 / 3))
    ours = {"output": y, "x": leaf.grad, **{name: p.grad for name, p in module.named_parameters()}}
    same = reference(module, x, context, mask, torch.float32)
    exact = reference(module, x, context, mask, torch.float64)
    assert ours.keys() == exact.keys()
    for name, value in ours.items():
        assert_as_good_as_torch(value, same[name], exact[name], "float32", name)


def test_multi_head_attention_drops_weights_in_training_only():
    module = nn.MultiHeadAttention(8, 2, dropout=0.5)
    x = pm.tensor(np.random.default_rng(0).standard_normal((1, 6, 8)))
    assert not np.array_equal(module(x).numpy(), module(x).numpy())
    module.eval()
    assert np.array_equal(module(x).numpy(), module(x).numpy())


def test_multi_head_attention_adds_a_residual():
    module = nn.MultiHeadAttention(8, 2)
    x = pm.tensor(np.random.default_rng(0).standard_normal((1, 6, 8)))
    assert np.allclose(module(x, residual=x).numpy(), module(x).numpy() + x.numpy(), atol=1e-6)


def test_multi_head_attention_names_what_does_not_fit():
    with pytest.raises(ValueError, match=r"num_heads must be a multiple of num_kv_heads, got 4 and 3"):
        nn.MultiHeadAttention(8, 4, num_kv_heads=3)
    with pytest.raises(ValueError, match=r"embed_dim must be a multiple of num_heads, got 9 and 2"):
        nn.MultiHeadAttention(9, 2)
    with pytest.raises(ValueError, match=r"dropout must lie between 0 and 1, got -1"):
        nn.MultiHeadAttention(8, 2, dropout=-1.0)
    x = pm.zeros((1, 2, 8))
    with pytest.raises(ValueError, match="this module takes no context; set context_dim"):
        nn.MultiHeadAttention(8, 2)(x, x)
    with pytest.raises(ValueError, match="this module takes a context"):
        nn.MultiHeadAttention(8, 2, context_dim=8)(x)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, seq, embed_dim\), got \(2, 8\)"):
        nn.MultiHeadAttention(8, 2)(pm.zeros((2, 8)))
