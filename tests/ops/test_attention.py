"""attention against torch: every mask and option, alone and combined, gradients, dropout, determinism."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attention_reference import DTYPES, check, draw, draw_qkv, reference
from memory import transposed
from reference import assert_as_good_as_torch, check_op, gradient_of, to_torch

import pymodel as pm
from pymodel import _core, ops

# Options travel as dictionaries here and gradients are known to exist: nothing for a type checker.
attention: Any = ops.attention
tensor: Any = pm.tensor


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sq", "sk", "heads", "kv_heads", "d", "dv"),
    [
        (64, 64, 2, 2, 64, 64),  # whole tiles
        (5, 9, 3, 3, 7, 5),  # smaller than any vector
        (65, 130, 4, 2, 24, 40),  # tails in both directions, grouped heads
        (130, 65, 4, 1, 80, 16),  # more queries than keys, one key head
        (1, 77, 2, 1, 128, 128),  # decoding one token
        (70, 70, 4, 2, 1, 1),  # one dimension
        (33, 300, 2, 2, 256, 300),  # heads wider than a tile, several blocks of keys
    ],
)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_matches_torch(
    sq: int, sk: int, heads: int, kv_heads: int, d: int, dv: int, causal: bool, dtype: str, device: str
) -> None:
    if device != "cpu":
        dv = min(dv, 256)  # the widest that device kernels take
    check(draw_qkv(2, sq, sk, heads, kv_heads, d, dv), dtype, causal=causal)


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_attention_scale(scale: float) -> None:
    check(draw_qkv(1, 20, 20, 2, 2, 8, 8), scale=scale, causal=True)


@pytest.mark.parametrize(("sq", "sk"), [(9, 5), (64, 128), (100, 100), (130, 40), (37, 150)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_attention_masks_in_every_combination(sq: int, sk: int, causal: bool, lengths: bool) -> None:
    inputs = draw_qkv(2, sq, sk, 8, 4, 16, 16)
    for window in (None, 3, (17, 5), (0, 0), (-1, 2), (40, -1)):
        options: dict[str, Any] = {"causal": causal, "window": window}
        if lengths:
            options |= {"key_lengths": [sk - 2, sk // 3], "query_lengths": [sq // 2 + 1, sq]}
        check(inputs, **options)


@pytest.mark.parametrize("power", [-80, -50, 50, 80])
@pytest.mark.parametrize("scaled", ["scores", "values"])
def test_attention_of_large_and_small_numbers(scaled: str, power: int) -> None:
    # Beyond what float32 in three parts of bfloat16 can stand for.
    q, k, v = draw_qkv(2, 100, 150, 4, 2, 24, 40)
    factor = np.float32(2.0) ** power
    check([q * factor, k / factor, v] if scaled == "scores" else [q, k, v * factor], causal=True)


def test_attention_of_tiny_numbers_beside_others() -> None:
    # Parts of those are subnormal.
    random = np.random.default_rng(0)
    inputs = draw_qkv(1, 100, 150, 2, 2, 32, 32)
    tiny = [np.exp2(random.uniform(-149, -90, x.shape)) for x in inputs]
    check([np.where(random.random(x.shape) < 0.2, x * y, x) for x, y in zip(inputs, tiny, strict=True)])


def test_attention_keeps_infinities_in_their_column() -> None:
    q, k, v = draw_qkv(1, 70, 70, 2, 2, 32, 32)
    v[0, 40, 1, 5] = np.inf
    out = attention(
        tensor(q, dtype="float32"), tensor(k, dtype="float32"), tensor(v, dtype="float32")
    ).numpy()
    infinite = np.zeros(out.shape, dtype=bool)
    infinite[:, :, 1, 5] = True
    np.testing.assert_array_equal(np.isposinf(out), infinite)
    assert np.isfinite(out[~infinite]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape",
    [(2, 16, 70, 90), (1, 16, 70, 90), (2, 1, 70, 90), (2, 1, 1, 90), (1, 1, 1, 90), (16, 1, 90), (70, 90)],
)
def test_attention_bias_and_its_gradient(shape: tuple[int, ...], dtype: str) -> None:
    bias = draw(*shape, seed=9)
    check([*draw_qkv(2, 70, 90, 16, 8, 16, 24), bias], dtype, causal=True)
    bias[np.random.default_rng(1).random(shape) < 0.3] = -np.inf
    check([*draw_qkv(2, 70, 90, 16, 8, 16, 24), bias], dtype, key_lengths=[90, 50], window=(40, 30))


def test_attention_bias_over_several_blocks_of_keys() -> None:
    check([*draw_qkv(1, 66, 1100, 2, 1, 64, 64), draw(1, 1, 1, 1100)], causal=True)


def test_attention_takes_a_float32_bias_with_half_precision() -> None:
    q, k, v = (tensor(x, dtype="bfloat16") for x in draw_qkv(1, 9, 9, 2, 2, 8, 8))
    bias = tensor(draw(2, 9, 9), dtype="float32", requires_grad=True)
    out = attention(q, k, v, bias=bias)
    out.backward(tensor(np.ones(out.shape), dtype="bfloat16"))
    assert out.dtype == "bfloat16"
    assert (bias.grad.dtype, bias.grad.shape) == ("float32", (2, 9, 9))


@pytest.mark.parametrize("lengths_dtype", ["int32", "int64"])
def test_attention_lengths_may_be_tensors(lengths_dtype: str) -> None:
    q, k, v = (tensor(x, dtype="float32") for x in draw_qkv(2, 6, 6, 1, 1, 4, 4))
    expected = attention(q, k, v, key_lengths=[4, 2]).numpy()
    lengths = tensor([4, 2], dtype=lengths_dtype)
    np.testing.assert_array_equal(attention(q, k, v, key_lengths=lengths).numpy(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_rows_that_see_nothing(dtype: str) -> None:
    # More queries than keys under a causal mask, and a sequence without keys.
    arrays = [tensor(x, dtype=dtype, requires_grad=True) for x in draw_qkv(2, 80, 10, 2, 2, 16, 16)]
    out = attention(*arrays, causal=True, key_lengths=[10, 0])
    out.backward(tensor(draw(*out.shape), dtype=dtype))
    q, k, v = (x.grad.numpy().astype(np.float32) for x in arrays)
    values = out.numpy().astype(np.float32)
    for unseeing in (values[0, :70], values[1], q[0, :70], q[1], k[1], v[1]):
        assert not unseeing.any()
    for x in (values[0, 70:], v[0]):
        assert x.all()
    assert all(np.isfinite(x).all() for x in (values, q, k, v))


def test_attention_log_sum_exp() -> None:
    q, k, v = (tensor(x, dtype="float32") for x in draw_qkv(1, 7, 5, 2, 2, 8, 8))
    options: Any = (None, None, None, 0.5, -1, 0, 0.0, 0, 0)
    call = _core.AttentionCall(q._array, k._array, v._array, *options)
    lse = pm.Tensor(_core.attention_forward(call, True)[1])
    scores = np.einsum("bihd,bjhd->bhij", q.numpy(), k.numpy()) * 0.5
    seen = np.arange(5) <= np.arange(7)[:, None] - 2
    with np.errstate(divide="ignore"):
        expected = np.log(np.where(seen, np.exp(scores), 0).sum(-1))
    np.testing.assert_allclose(lse.numpy(), expected, rtol=1e-5)
    assert np.isneginf(lse.numpy()[..., :2]).all()


def test_attention_large_scores_do_not_overflow() -> None:
    q, k, v = draw_qkv(1, 100, 100, 1, 1, 16, 16)
    out = attention(*(tensor(x, dtype="float32") for x in (q * 100, k * 100, v))).numpy()
    assert np.isfinite(out).all()


def test_attention_nan_stays_in_its_row() -> None:
    q, k, v = draw_qkv(1, 70, 70, 1, 1, 8, 8)
    q[0, 3] = np.nan
    out = attention(*(tensor(x, dtype="float32") for x in (q, k, v))).numpy()
    np.testing.assert_array_equal(np.isnan(out).all(axis=(0, 2, 3)), np.arange(70) == 3)
    np.testing.assert_array_equal(np.isnan(out).any(axis=(0, 2, 3)), np.arange(70) == 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_matches_scaled_dot_product_attention(dtype: str) -> None:
    def theirs(*inputs: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in inputs)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    check_op(lambda *x: attention(*x, causal=True), theirs, draw_qkv(2, 200, 200, 2, 2, 64, 64), dtype)


# -- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("sq", "sk"), [(35, 37), (70, 131)])
def test_attention_dropout_with_its_own_mask(sq: int, sk: int, dtype: str) -> None:
    seed, p = 2**40 + 7, 0.3
    inputs = [*draw_qkv(2, sq, sk, 16, 8, 16, 16), draw(1, 16, sq, sk)]
    options: dict[str, Any] = {"causal": True, "window": (60, -1), "key_lengths": [sk, sk - 3]}

    def ours(q, k, v, bias):
        pm.manual_seed(seed)
        pm.random.next_offset()
        return attention(q, k, v, bias=bias, dropout_p=p, **options)

    mask = ops.attention_dropout_mask(2, 16, sq, sk, p, seed, 1).numpy()
    keep = torch.tensor(mask / (1 - p))
    check_op(ours, lambda *x: reference(*x, keep=keep, **options), inputs, dtype)


def test_attention_dropout_statistics_and_extremes() -> None:
    mask = ops.attention_dropout_mask(2, 3, 50, 101, 0.1, 5, 0).numpy()
    assert abs(mask.mean() - 0.9) < 0.01
    assert (mask != ops.attention_dropout_mask(2, 3, 50, 101, 0.1, 5, 1).numpy()).any()
    arrays = [tensor(x, dtype="float32", requires_grad=True) for x in draw_qkv(1, 9, 9, 1, 1, 4, 4)]
    out = attention(*arrays, dropout_p=1.0)
    out.backward(pm.ones(out.shape))
    assert not any(x.any() for x in (out.numpy(), *(x.grad.numpy() for x in arrays)))


# -- layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_reads_packed_projections_in_place(dtype: str) -> None:
    whole = tensor(draw(2, 70, 3, 4, 16), dtype=dtype, requires_grad=True)
    views = [pm.Tensor(whole._array.select(2, i)).requires_grad_() for i in range(3)]
    copies = [tensor(x.detach().numpy().copy(), requires_grad=True) for x in views]
    incoming = tensor(draw(2, 70, 4, 16, seed=1), dtype=dtype)
    outs = [attention(*views, causal=True), attention(*copies, causal=True)]
    outs.append(ops.attention_qkvpacked(whole, causal=True))
    for out in outs:
        out.backward(incoming)
        np.testing.assert_array_equal(out.numpy(), outs[0].numpy())
    gradient: Any = gradient_of(whole)
    for i, (view, copy) in enumerate(zip(views, copies, strict=True)):
        np.testing.assert_array_equal(gradient_of(view).numpy(), copy.grad.numpy())
        np.testing.assert_array_equal(gradient.numpy()[:, :, i], copy.grad.numpy())


def test_attention_qkvpacked_with_every_option() -> None:
    options: dict[str, Any] = {"causal": True, "window": 30, "scale": 0.2}

    def theirs(qkv: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        lengths: Any = {"key_lengths": [40, 17], "query_lengths": [40, 17]}
        return reference(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], bias, **lengths, **options)

    def ours(qkv: pm.Tensor, bias: pm.Tensor) -> pm.Tensor:
        return ops.attention_qkvpacked(qkv, lengths=[40, 17], bias=bias, **options)

    check_op(ours, theirs, [draw(2, 40, 3, 2, 12), draw(2, 1, 40)], "float32")


@pytest.mark.parametrize("shape", [(2, 19, 3, 4, 6), (0, 5, 3, 2, 8), (2, 0, 3, 2, 8)], ids=str)
def test_attention_qkvpacked_splits_and_merges_heads(shape: tuple[int, ...]) -> None:
    values, heads = draw(*shape), shape[3]
    merged = (*shape[:2], shape[3] * shape[4])
    apart = tensor(values, dtype="float32", requires_grad=True)
    flat = tensor(values.reshape(*shape[:2], 3 * merged[2]), dtype="float32", requires_grad=True)
    expected = ops.attention_qkvpacked(apart, causal=True)
    result = ops.attention_qkvpacked(flat, causal=True, heads=heads)
    assert result.shape == merged
    np.testing.assert_array_equal(result.numpy(), expected.numpy().reshape(merged))
    incoming = draw(*merged, seed=1)
    expected.backward(tensor(incoming.reshape(expected.shape), dtype="float32"))
    result.backward(transposed(incoming, dtype="float32"))
    np.testing.assert_array_equal(gradient_of(flat).numpy(), gradient_of(apart).numpy().reshape(flat.shape))


def test_attention_copies_a_head_dim_that_is_not_dense() -> None:
    values = draw_qkv(1, 9, 12, 2, 2, 8, 8)
    views = [transposed(x, dtype="float32") for x in values]
    copies = [tensor(x, dtype="float32") for x in values]
    np.testing.assert_array_equal(attention(*views).numpy(), attention(*copies).numpy())


def test_attention_of_one_tensor_thrice() -> None:
    check_op(lambda x: attention(x, x, x), lambda x: reference(x, x, x), [draw(1, 20, 2, 8)], "float32")


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
def test_attention_gradients_of_some_inputs(wanted: tuple[bool, ...]) -> None:
    values = draw_qkv(1, 30, 40, 2, 1, 8, 8)
    some = [tensor(x, dtype="float32", requires_grad=w) for x, w in zip(values, wanted, strict=True)]
    every = [tensor(x, dtype="float32", requires_grad=True) for x in values]
    incoming = tensor(draw(1, 30, 2, 8), dtype="float32")
    for tensors in (some, every):
        if any(x.requires_grad for x in tensors):
            attention(*tensors, causal=True).backward(incoming)
    for x, full, w in zip(some, every, wanted, strict=True):
        assert (x.grad is not None) == w
        if x.grad is not None:
            np.testing.assert_array_equal(x.grad.numpy(), full.grad.numpy())


@pytest.mark.parametrize(
    ("batch", "sq", "sk", "heads"), [(0, 4, 4, 2), (2, 0, 4, 2), (2, 4, 0, 2), (1, 4, 4, 0)]
)
def test_attention_of_nothing(batch: int, sq: int, sk: int, heads: int) -> None:
    inputs = [*draw_qkv(batch, sq, sk, heads, heads, 8, 5), draw(1, 1, 1, sk)]
    tensors = [tensor(x, dtype="float32", requires_grad=True) for x in inputs]
    out = attention(*tensors[:3], causal=True, bias=tensors[3], dropout_p=0.1)
    out.backward(tensor(np.ones(out.shape), dtype="float32"))
    assert out.shape == (batch, sq, heads, 5)
    assert not out.numpy().any()
    for x in tensors:
        np.testing.assert_array_equal(x.grad.numpy(), np.zeros(x.shape))


# -- promises -----------------------------------------------------------------------------------


@pytest.mark.host_only("threads of the CPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_bits_do_not_depend_on_threads(dtype: str) -> None:
    # Several chunks of queries, blocks of keys and splits of the backward pass.
    inputs = [*draw_qkv(1, 300, 1100, 4, 2, 64, 64), draw(1, 1, 300, 1100)]
    results = []
    before = pm.get_num_threads()
    try:
        for threads in (1, 2, 3):
            pm.set_num_threads(threads)
            pm.manual_seed(1)
            tensors = [tensor(x, dtype=dtype, requires_grad=True) for x in inputs]
            out = attention(*tensors[:3], causal=True, bias=tensors[3], dropout_p=0.2)
            out.backward(tensor(draw(*out.shape, seed=5), dtype=dtype))
            results.append([out.numpy(), *(x.grad.numpy() for x in tensors)])
    finally:
        pm.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_attention_long_sequences_over_several_blocks() -> None:
    values = draw_qkv(1, 700, 1100, 2, 1, 64, 32)
    tensors = [tensor(x, dtype="float32", requires_grad=True) for x in values]
    out = attention(*tensors, causal=True)
    incoming = draw(*out.shape)
    out.backward(tensor(incoming, dtype="float32"))
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [to_torch(x.numpy(), dtype).requires_grad_() for x in tensors]
        theirs = reference(*leaves, causal=True)
        theirs.backward(to_torch(incoming.astype(np.float32), dtype))
        results.append([theirs, *(x.grad for x in leaves)])
    for name, ours, same, exact in zip("oqkv", [out, *(x.grad for x in tensors)], *results, strict=True):
        assert_as_good_as_torch(ours, same, exact, "float32", name)


def test_attention_never_holds_the_matrix_of_scores(device: str) -> None:
    length = 3000
    tensors = [tensor(draw(1, length, 1, 8), dtype="float32", requires_grad=True) for _ in range(3)]
    pm.reset_peak_memory(device)
    before = pm.memory_stats(device)["in_use"]
    out = attention(*tensors, window=50)
    out.backward(pm.ones(out.shape))
    assert pm.memory_stats(device)["peak_in_use"] - before < length * length * 4 / 4


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": (2, 5, 4)}, r"q must have 4 dimensions"),
        ({"k": (2, 6, 2, 9)}, r"k must have shape \(2, \*, \*, 8\), got \(2, 6, 2, 9\)"),
        ({"v": (2, 7, 2, 8)}, r"v must have shape \(2, 6, 2, \*\)"),
        ({"k": (2, 6, 3, 8), "v": (2, 6, 3, 8)}, r"multiple of those of k and v, got 4 and 3"),
        ({"bias": (3, 4, 5, 6)}, r"bias must have shape \(2, 4, 5, 6\) with 1 where"),
        ({"bias": (5, 1)}, r"bias must have shape"),
        ({"key_lengths": [6]}, r"key_lengths must have shape \(2,\), got \(1,\)"),
        ({"key_lengths": [6, 7]}, r"key_lengths\[1\] must be from 0 to the sequence's extent 6, got 7"),
        ({"query_lengths": [-1, 3]}, r"query_lengths\[0\] must be from 0"),
        ({"window": 0}, r"window must be at least 1"),
        ({"window": (-2, 0)}, r"window bounds must be at least 0"),
        ({"dropout_p": 1.5}, r"dropout_p must be from 0 to 1"),
    ],
)
def test_attention_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    shapes: dict[str, Any] = {"q": (2, 5, 4, 8), "k": (2, 6, 2, 8), "v": (2, 6, 2, 8)}
    arguments = {
        name: tensor(draw(*value), dtype="float32") if name in (*shapes, "bias") else value
        for name, value in {**shapes, **change}.items()
    }
    with pytest.raises(ValueError, match=message):
        attention(**arguments)


def test_attention_errors_of_dtypes() -> None:
    q, k, v = (tensor(x, dtype="float32") for x in draw_qkv(1, 3, 3, 1, 1, 4, 4))
    with pytest.raises(TypeError, match="k must be float32, got bfloat16"):
        attention(q, tensor(k, dtype="bfloat16"), v)
    with pytest.raises(TypeError, match="key_lengths must be int64 or int32, got float32"):
        attention(q, k, v, key_lengths=tensor([1.0]))
    with pytest.raises(ValueError, match="qkv must have shape"):
        ops.attention_qkvpacked(q)
    for heads in (0, 5):
        with pytest.raises(ValueError, match=rf"head_dim\) for {heads} heads, got \(1, 2, 24\)"):
            ops.attention_qkvpacked(pm.zeros((1, 2, 24)), heads=heads)
