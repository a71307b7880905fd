"""attention_varlen against attention of one sequence after the other, in torch."""

from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from attention_reference import DTYPES, draw, reference
from reference import check_op

import pymodel as pm
from pymodel import ops

varlen: Any = ops.attention_varlen
tensor: Any = pm.tensor

# Lengths of queries and of keys, sequence by sequence.
UNEQUAL = [5, 70, 1, 33], [9, 66, 130, 33]
WITH_EMPTY = [0, 40, 7, 0, 20], [3, 40, 0, 0, 150]


def offsets(lengths: list[int]) -> list[int]:
    return [0, *accumulate(lengths)]


def draw_packed(lengths: tuple[list[int], list[int]], heads: int, kv_heads: int, d: int) -> list[np.ndarray]:
    total_q, total_k = (sum(x) for x in lengths)
    shapes = (total_q, heads, d), (total_k, kv_heads, d), (total_k, kv_heads, d)
    return [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]


def expected(lengths: tuple[list[int], list[int]], **options: Any) -> Any:
    """What torch makes of packed q, k, v and perhaps a bias, one sequence after the other."""
    keep = options.pop("keep", None)

    def compute(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Any = None) -> torch.Tensor:
        parts = []
        for i, (lq, lk) in enumerate(zip(*lengths, strict=True)):
            a, c = sum(lengths[0][:i]), sum(lengths[1][:i])
            if lk == 0:
                parts.append(q[a : a + lq] * 0)
                continue
            rows = q[None, a : a + lq], k[None, c : c + lk], v[None, c : c + lk]
            own = None if bias is None else bias[i % bias.shape[0], None, :, :lq, :lk]
            kept = None if keep is None else keep[i, None, :, :lq, :lk]
            parts.append(reference(*rows, own, keep=kept, **options)[0])
        return torch.cat(parts)

    return compute


def arguments(lengths: tuple[list[int], list[int]]) -> dict[str, Any]:
    return {
        "cu_seqlens_q": offsets(lengths[0]),
        "cu_seqlens_k": np.array(offsets(lengths[1]), dtype=np.int32),
        "max_seqlen_q": max(lengths[0]),
        "max_seqlen_k": max(lengths[1]) + 3,  # an upper bound is enough
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [UNEQUAL, WITH_EMPTY])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_varlen_matches_torch(lengths: Any, causal: bool, dtype: str) -> None:
    inputs = draw_packed(lengths, 4, 2, 16)
    check_op(
        lambda *x: varlen(*x, **arguments(lengths), causal=causal),
        expected(lengths, causal=causal),
        inputs,
        dtype,
    )


@pytest.mark.parametrize("shared", [False, True])
def test_attention_varlen_window_scale_and_bias(shared: bool) -> None:
    lengths, options = UNEQUAL, {"window": (20, 7), "scale": 0.3}
    bias = draw(1 if shared else 4, 2, 70, 133)

    def ours(q: Any, k: Any, v: Any, bias: Any) -> Any:
        return varlen(q, k, v, **arguments(lengths), bias=bias, **options)

    check_op(ours, expected(lengths, **options), [*draw_packed(lengths, 2, 1, 24), bias], "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_varlen_dropout(dtype: str) -> None:
    lengths, seed, p = WITH_EMPTY, 11, 0.3

    def ours(*x: Any) -> Any:
        pm.manual_seed(seed)
        return varlen(*x, **arguments(lengths), causal=True, dropout_p=p)

    mask = ops.attention_dropout_mask(5, 4, 40, 153, p, seed, 0).numpy()
    theirs = expected(lengths, causal=True, keep=torch.tensor(mask / (1 - p)))
    check_op(ours, theirs, draw_packed(lengths, 4, 4, 16), dtype)


def test_attention_varlen_over_several_blocks() -> None:
    # Sequences longer than what a task of the CPU holds of the keys, and shorter ones beside them.
    lengths: Any = [30, 120, 9], [1100, 90, 700]
    check_op(
        lambda *x: varlen(*x, **arguments(lengths), causal=True),
        expected(lengths, causal=True),
        draw_packed(lengths, 1, 1, 64),
        "float32",
    )


def test_attention_varlen_reads_a_packed_projection_in_place() -> None:
    whole = tensor(draw(109, 3, 2, 16), dtype="bfloat16")
    views = [pm.Tensor(whole._array.select(1, i)).requires_grad_() for i in range(3)]
    copies = [tensor(x.detach().numpy().copy(), requires_grad=True) for x in views]
    places = arguments((UNEQUAL[0], UNEQUAL[0]))
    incoming = tensor(draw(109, 2, 16), dtype="bfloat16")
    outs = [varlen(*x, **places, causal=True) for x in (views, copies)]
    for out in outs:
        out.backward(incoming)
    np.testing.assert_array_equal(*(out.numpy() for out in outs))
    for view, copy in zip(views, copies, strict=True):
        gradient: Any = view.grad
        np.testing.assert_array_equal(gradient.numpy(), copy.grad.numpy())


@pytest.mark.parametrize("lengths", [([], []), ([0, 0], [0, 0]), ([0, 0], [3, 0]), ([2, 3], [0, 0])])
def test_attention_varlen_of_nothing(lengths: Any) -> None:
    tensors = [tensor(x, dtype="float32", requires_grad=True) for x in draw_packed(lengths, 2, 2, 8)]
    places: Any = {"max_seqlen_q": max([0, *lengths[0]]), "max_seqlen_k": max([0, *lengths[1]])}
    out = varlen(*tensors, offsets(lengths[0]), offsets(lengths[1]), **places)
    out.backward(tensor(np.ones(out.shape), dtype="float32"))
    assert out.shape == (sum(lengths[0]), 2, 8)
    assert not out.numpy().any()
    for x in tensors:
        np.testing.assert_array_equal(x.grad.numpy(), np.zeros(x.shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cu_seqlens_q": [0, 3, 5]}, r"cu_seqlens_q must rise from 0 to 6, .* got 5 at position 2 behind 3"),
        ({"cu_seqlens_q": [1, 3, 6]}, r"cu_seqlens_q must rise from 0 to 6, .* got 1 at position 0"),
        ({"cu_seqlens_k": [0, 5, 4]}, r"cu_seqlens_k must rise from 0 to 4"),
        ({"max_seqlen_q": 2}, r"by at most 2, the longest sequence"),
        ({"max_seqlen_k": 0}, r"max_seqlen must be from 1 to 2\^30, got 0"),
        ({"cu_seqlens_k": [0, 4]}, r"cu_seqlens_k must have shape \(3,\), got \(2,\)"),
        ({"cu_seqlens_q": [0]}, r"cu_seqlens_q names no sequence, but there are 6 rows"),
        ({"q": (1, 6, 2, 8)}, r"q must have 3 dimensions"),
        ({"v": (3, 2, 8)}, r"v must have shape \(4, 2, \*\), got \(3, 2, 8\)"),
    ],
)
def test_attention_varlen_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    shapes: dict[str, Any] = {"q": (6, 2, 8), "k": (4, 2, 8), "v": (4, 2, 8)}
    places: dict[str, Any] = {"cu_seqlens_q": [0, 3, 6], "cu_seqlens_k": [0, 4, 4]}
    places |= {"max_seqlen_q": 3, "max_seqlen_k": 4}
    call = {
        name: tensor(draw(*value), dtype="float32") if name in shapes else value
        for name, value in {**shapes, **places, **change}.items()
    }
    with pytest.raises(ValueError, match=message):
        varlen(**call)
