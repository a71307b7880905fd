"""attention where device kernels take other paths: head dims, odd places in memory, orders of threads."""

from typing import Any

import numpy as np
import pytest
from attention_reference import DTYPES, check, draw, draw_qkv
from memory import shifted
from orders import run_under_orders

import pymodel as pm
from pymodel import ops

attention: Any = ops.attention
tensor: Any = pm.tensor


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("d", "dv"),
    [
        (1, 3),  # less than any copy
        (32, 31),  # the narrowest tile, and one column less
        (40, 72),  # whole copies that fill no step of a product
        (80, 96),  # between the tiles of 64 and 128
        (130, 256),  # rows that end in the middle of a copy, and the widest tile
    ],
)
def test_attention_head_dims(d: int, dv: int, dtype: str) -> None:
    check(draw_qkv(1, 70, 90, 2, 1, d, dv), dtype, causal=True, window=(60, -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_many_tiles(causal: bool, dtype: str) -> None:
    # Several tiles that every query sees wholly, before, behind and between those that need a mask.
    options: dict[str, Any] = {"causal": causal, "window": (250, 60), "key_lengths": [397]}
    check(draw_qkv(1, 150, 410, 2, 1, 16, 16), dtype, **options)


def results(tensors: list[Any], incoming: Any, seed: int = 0, **options: Any) -> list[np.ndarray]:
    pm.manual_seed(seed)
    out = attention(*tensors[:3], bias=tensors[3] if len(tensors) > 3 else None, **options)
    out.backward(incoming)
    return [out.numpy(), *(x.grad.numpy() for x in tensors)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [16, 17])
def test_attention_bits_do_not_depend_on_alignment(d: int, dtype: str) -> None:
    values = [*draw_qkv(1, 40, 70, 2, 1, d, d), draw(1, 1, 40, 70)]
    incoming = draw(1, 40, 2, d)
    both = []
    for place in (tensor, shifted):
        tensors = [place(x, dtype=dtype).requires_grad_() for x in values]
        both.append(results(tensors, place(incoming, dtype=dtype), causal=True))
    for a, b in zip(*both, strict=True):
        np.testing.assert_array_equal(a, b)


def test_attention_of_an_expanded_gradient() -> None:
    row = draw(1, 1, 1, 16)
    both = []
    for incoming in (
        tensor(row, dtype="bfloat16").expand(1, 40, 2, 16),
        tensor(np.tile(row, (1, 40, 2, 1)), dtype="bfloat16"),
    ):
        tensors = [tensor(x, dtype="bfloat16", requires_grad=True) for x in draw_qkv(1, 40, 70, 2, 1, 16, 16)]
        both.append(results(tensors, incoming))
    for a, b in zip(*both, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_bits_do_not_depend_on_the_order_of_threads(dtype: str, device: str) -> None:
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")
    values = [*draw_qkv(1, 70, 150, 4, 2, 16, 16), draw(1, 1, 70, 150)]
    incoming = draw(1, 70, 4, 16, seed=9)
    options: dict[str, Any] = {"causal": True, "window": 100, "key_lengths": [141], "dropout_p": 0.2}

    def compute() -> list[np.ndarray]:
        tensors = [tensor(x, dtype=dtype, requires_grad=True) for x in values]
        plain = [tensor(x, dtype=dtype, requires_grad=True) for x in values[:3]]
        dout = tensor(incoming, dtype=dtype)
        return results(tensors, dout, **options) + results(plain, dout)

    run_under_orders(compute, seeds=2)


@pytest.mark.parametrize(("queries", "keys"), [(5, 9), (33, 130), (1, 4)])
def test_attention_dropout_is_the_same_on_every_device(queries: int, keys: int, device: str) -> None:
    arguments: Any = (2, 3, queries, keys, 0.3, 2**40 + 7, 2**35 + 1)
    mask = ops.attention_dropout_mask(*arguments).numpy()
    with pm.device("cpu"):
        np.testing.assert_array_equal(mask, ops.attention_dropout_mask(*arguments).numpy())


def test_attention_refuses_heads_that_no_device_kernel_takes(device: str) -> None:
    q, k, v = (tensor(x, dtype="float32") for x in draw_qkv(1, 3, 3, 1, 1, 8, 257))
    if device == "cpu":
        assert attention(q, k, v).shape == (1, 3, 1, 257)
    else:
        with pytest.raises(ValueError, match=r"head_dim may be at most 256 on device .*, got 257"):
            attention(q, k, v)
