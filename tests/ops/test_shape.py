"""Views, pieces and joins against torch: values, gradients, sharing of memory, errors."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from memory import shares_memory
from reference import check_op, to_float64

import pymodel as pm

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


# The same call on both libraries: (name, input shape, function).
VIEWS: list[tuple[str, tuple[int, ...], Any]] = [
    ("reshape", (2, 3, 4), lambda x: x.reshape(6, 4)),
    ("reshape of a tuple", (2, 3, 4), lambda x: x.reshape((4, -1))),
    ("reshape to a scalar", (1, 1), lambda x: x.reshape(())),
    ("reshape of a scalar", (), lambda x: x.reshape(1, 1)),
    ("reshape of nothing", (2, 0, 3), lambda x: x.reshape(0, 5)),
    ("view", (2, 3, 4), lambda x: x.view(2, 12)),
    ("view of a transposed tensor", (2, 3, 4), lambda x: x.transpose(0, 1).view(3, 2, 2, 2)),
    ("flatten", (2, 3, 4), lambda x: x.flatten()),
    ("flatten the end", (2, 3, 4), lambda x: x.flatten(1)),
    ("flatten the middle", (2, 3, 4, 5), lambda x: x.flatten(1, 2)),
    ("flatten a scalar", (), lambda x: x.flatten()),
    ("squeeze", (1, 3, 1), lambda x: x.squeeze()),
    ("squeeze one", (1, 3, 1), lambda x: x.squeeze(-1)),
    ("squeeze nothing", (2, 3), lambda x: x.squeeze(0)),
    ("unsqueeze first", (2, 3), lambda x: x.unsqueeze(0)),
    ("unsqueeze last", (2, 3), lambda x: x.unsqueeze(-1)),
    ("transpose", (2, 3, 4), lambda x: x.transpose(0, 2)),
    ("transpose from behind", (2, 3, 4), lambda x: x.transpose(-1, -2)),
    ("permute", (2, 3, 4), lambda x: x.permute(2, 0, 1)),
    ("permute with negative dims", (2, 3, 4), lambda x: x.permute((-1, 0, -2))),
    ("T", (2, 3), lambda x: x.T),
    ("mT", (5, 2, 3), lambda x: x.mT),
    ("expand", (3, 1), lambda x: x.expand(3, 4)),
    ("expand in front", (3, 1), lambda x: x.expand(2, -1, 4)),
    ("expand to nothing", (1, 3), lambda x: x.expand(0, 3)),
    ("broadcast_to", (1, 4), lambda x: x.broadcast_to((2, 3, 4))),
]
COPIES: list[tuple[str, tuple[int, ...], Any]] = [
    ("reshape of a transposed tensor", (2, 3, 4), lambda x: x.transpose(0, 2).reshape(4, 6)),
    ("reshape of an expanded tensor", (2, 1, 3), lambda x: x.expand(2, 5, 3).reshape(10, 3)),
    ("flatten a transposed tensor", (3, 5), lambda x: x.mT.flatten()),
    ("repeat", (2, 3), lambda x: x.repeat(3, 2)),
    ("repeat in front", (2, 3), lambda x: x.repeat(2, 1, 2)),
    ("repeat extents of one", (1, 3), lambda x: x.repeat((4, 1))),
    ("repeat no times", (2, 3), lambda x: x.repeat(0, 1)),
    ("repeat a scalar", (), lambda x: x.repeat(3)),
    ("repeat a transposed tensor", (2, 3), lambda x: x.T.repeat(2, 2)),
    ("cat", (3, 4), lambda x: _library(x).cat([x, x[:1], x[1:]], 0)),
    ("cat inside", (3, 4), lambda x: _library(x).cat((x, x[:, :2]), 1)),
    ("cat from behind", (2, 3, 4), lambda x: _library(x).cat([x, x], -2)),
    ("cat one", (2, 3), lambda x: _library(x).cat([x])),
    ("cat with nothing", (2, 3), lambda x: _library(x).cat([x[:0], x])),
    ("stack", (3, 4), lambda x: _library(x).stack([x, x * 2.0])),
    ("stack inside", (3, 4), lambda x: _library(x).stack([x, x * 2.0], 1)),
    ("stack last", (3, 4), lambda x: _library(x).stack([x, x * 2.0], -1)),
    ("stack scalars", (), lambda x: _library(x).stack([x, x, x])),
]
PIECES: list[tuple[str, tuple[int, ...], Any]] = [
    ("split", (3, 6), lambda x: x.split(2, 1)),
    ("split unevenly", (7, 2), lambda x: x.split(3)),
    ("split by sizes", (6, 2), lambda x: x.split([1, 3, 2])),
    ("split with an empty piece", (2, 4), lambda x: x.split([4, 0], -1)),
    ("split nothing", (0, 3), lambda x: x.split(2)),
    ("chunk", (7, 2), lambda x: x.chunk(3)),
    ("chunk into more than there are", (2, 3), lambda x: x.chunk(5)),
    ("chunk the last dimension", (2, 6), lambda x: x.chunk(3, dim=-1)),
    ("unbind", (3, 4), lambda x: x.unbind()),
    ("unbind the last dimension", (2, 3), lambda x: x.unbind(-1)),
    ("iterate", (3, 4), lambda x: tuple(x)),
]


def _library(x: Any) -> Any:
    return torch if isinstance(x, torch.Tensor) else pm.ops


def _ids(cases):
    return [case[0] for case in cases]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "shape", "call"), VIEWS + COPIES, ids=_ids(VIEWS + COPIES))
def test_shape_values_and_gradients(name, shape, call, dtype):
    check_op(call, call, [normal(*shape)], dtype)


@pytest.mark.parametrize(("name", "shape", "call"), VIEWS, ids=_ids(VIEWS))
def test_shape_views_share_memory(name, shape, call):
    x = pm.tensor(normal(*shape), dtype="float32")
    result = call(x)
    assert result.shape == tuple(call(torch.zeros(shape)).shape)
    assert result.numel() == 0 or shares_memory(result, x)


@pytest.mark.parametrize(("name", "shape", "call"), COPIES, ids=_ids(COPIES))
def test_shape_copies_have_memory_of_their_own(name, shape, call):
    x = pm.tensor(normal(*shape), dtype="float32")
    result = call(x)
    assert result.is_contiguous()
    assert not shares_memory(result, x)


@pytest.mark.parametrize(("name", "shape", "call"), PIECES, ids=_ids(PIECES))
def test_shape_pieces_values_and_gradients(name, shape, call):
    values = normal(*shape)
    x: Any = pm.tensor(values, dtype="float32", requires_grad=True)
    same = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    ours, theirs = call(x), call(same)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.numel() == 0 or shares_memory(a, x)
        np.testing.assert_array_equal(to_float64(a), to_float64(b))

    # Every second piece is used, each with a weight of its own; the others must get zeros.
    def total(pieces):
        return sum((piece * float(i + 1)).sum() for i, piece in enumerate(pieces) if i % 2 == 0)

    total(ours).backward()
    total(theirs).backward()
    np.testing.assert_array_equal(to_float64(x.grad), to_float64(same.grad))


@pytest.mark.parametrize("dtype", ["float16", "int32", "int64", "uint8", "bool"])
def test_shape_every_dtype_moves(dtype):
    x = pm.tensor(np.arange(12).reshape(3, 4) % 2, dtype=dtype)
    expected = x.numpy()
    np.testing.assert_array_equal(x.T.reshape(2, 6).numpy(), expected.T.reshape(2, 6))
    np.testing.assert_array_equal(
        pm.ops.cat([x, x.flatten().reshape(3, 4)], 1).numpy(), np.tile(expected, (1, 2))
    )
    np.testing.assert_array_equal(x.repeat(2, 1).numpy(), np.tile(expected, (2, 1)))
    np.testing.assert_array_equal(pm.ops.stack(list(x.unbind(1)), 1).numpy(), expected)


def test_shape_reshape_is_a_view_exactly_where_one_exists():
    """Against torch's `view` over permutations, steps, broadcasts and target shapes."""
    for order in itertools.permutations(range(3)):
        for step, wide in itertools.product((1, 2), (False, True)):
            base = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)
            ours = pm.from_numpy(base[:, ::step]).permute(*order).unsqueeze(1)
            theirs = torch.from_numpy(base[:, ::step]).permute(*order).unsqueeze(1)
            if wide:
                ours, theirs = ours.expand(-1, 3, -1, -1), theirs.expand(-1, 3, -1, -1)
            for target in ((-1,), (2, -1), (-1, 2), (6, -1), (-1, 6), (4, 1, -1), (3, -1, 2), (1, 8, -1, 1)):
                try:
                    expected = theirs.view(target)
                except RuntimeError:
                    expected = None
                reshaped = ours.reshape(target)
                np.testing.assert_array_equal(reshaped.numpy(), theirs.reshape(target).numpy())
                assert shares_memory(reshaped, ours) == (expected is not None), (order, step, wide, target)


def test_shape_view_never_copies():
    x = pm.tensor(normal(2, 3, 4), dtype="float32")
    with pytest.raises(ValueError, match=r"strides \(1, 4, 12\) has no view of shape \(-1,\); use reshape"):
        x.transpose(0, 2).view(-1)


def test_shape_split_of_packed_projections_makes_one_gradient_buffer():
    x: Any = pm.tensor(normal(64, 3 * 256), dtype="float32", requires_grad=True)
    q, k, v = (x * 1.0).split(256, dim=-1)
    loss = (q * 2.0).sum() + (k * 3.0).sum() + (v * 5.0).sum()
    del q, k, v
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.repeat([2.0, 3.0, 5.0], 256)[None].repeat(64, 0))


def test_shape_gradients_are_not_recorded_without_need():
    x: Any = pm.tensor(normal(4, 4), requires_grad=True)
    with pm.no_grad():
        for y in (x.T, x.reshape(-1), x[0], *x.split(2), pm.ops.cat([x, x])):
            assert not y.requires_grad
    plain = pm.tensor(normal(4, 4))
    assert not pm.ops.cat([plain, plain.T]).requires_grad
    assert pm.ops.cat([plain, x]).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.reshape(5, 5), r"reshape: .*\(2, 3, 4\) has 24 elements and cannot take shape \(5, 5\)"),
        (lambda x: x.reshape(-1, -1), "only one extent may be -1"),
        (lambda x: x.transpose(0, 3), "transpose: dimension 3 is out of range for a tensor of 3"),
        (lambda x: x.permute(0, 1), "permute: expected 3 dimensions, got 2"),
        (lambda x: x.permute(0, 1, 1), "permute: a dimension is named twice"),
        (lambda x: x.T, r"T: a tensor of 2 dimensions is expected, got shape \(2, 3, 4\); use mT"),
        (lambda x: x[0, 0].mT, r"mT: a tensor of at least 2 dimensions is expected, got shape \(4,\)"),
        (lambda x: x.expand(2, 3, 5), r"\(2, 3, 4\) cannot be broadcast to \(2, 3, 5\)"),
        (lambda x: x.expand(3, 4), r"expand: a tensor of shape \(2, 3, 4\) cannot be expanded to \(3, 4\)"),
        (lambda x: x.expand(-1, 2, 3, 4), "cannot be expanded"),
        (lambda x: x.repeat(2), "repeat: one count >= 0 for each dimension"),
        (lambda x: x.flatten(2, 1), "flatten: start_dim 2 lies behind end_dim 1"),
        (lambda x: x.squeeze(7), "squeeze: dimension 7 is out of range"),
        (lambda x: x.unsqueeze(4), "unsqueeze: dimension 4 is out of range"),
        (lambda x: x.split(0), "split: the size must be positive, got 0"),
        (lambda x: x.split([1, 1], 1), r"split: the sizes \[1, 1\].*sum to 3"),
        (lambda x: x.chunk(0), "chunk: the number of chunks must be positive"),
        (lambda x: pm.ops.cat([]), "cat: at least one tensor is expected"),
        (lambda x: pm.ops.cat([x, x[:, :2]], 0), r"cat: tensor 1 has shape \(2, 2, 4\).*\(2, 3, 4\)"),
        (lambda x: pm.ops.stack([]), "stack: at least one tensor is expected"),
        (lambda x: pm.ops.stack([x, x[0]]), r"stack: tensor 1 has shape \(3, 4\), expected \(2, 3, 4\)"),
    ],
)
def test_shape_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(pm.zeros((2, 3, 4)))


def test_shape_errors_of_type():
    x = pm.zeros((2, 3))
    with pytest.raises(
        TypeError, match=r'cat: all tensors must be float32.*got int64 for tensor 1.*\.to\("float32"\)'
    ):
        pm.ops.cat([x, pm.zeros((2, 3), dtype="int64")])
    with pytest.raises(TypeError, match="cannot be iterated over"):
        iter(pm.tensor(1.0))
