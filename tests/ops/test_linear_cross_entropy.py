"""Linear cross-entropy against the two operations of torch that it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import spaced, transposed
from reference import TORCH_DTYPES, assert_as_good_as_torch, gradient_of, to_torch

import pymodel as pm

DTYPES = ["float32", "float16", "bfloat16"]


def draw(shape, width, classes, *, ignored=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.standard_normal(s) for s in ((*shape, width), (classes, width), (classes,)))
    targets = rng.integers(0, classes, shape)
    return x, weight, bias, np.where(rng.random(shape) < ignored, -100, targets)


def torch_results(leaves, targets, incoming, dtype, transposed_weight, options):
    """Loss and gradients in one dtype; the loss is computed from float32 logits at least."""
    torch_leaves: list[Any] = [
        None if leaf is None else to_torch(leaf.numpy(), dtype).requires_grad_() for leaf in leaves
    ]
    x, weight, bias = torch_leaves
    logits = F.linear(x, weight.T if transposed_weight else weight, bias)
    wide = logits.to(torch.float32) if dtype != torch.float64 else logits
    classes = logits.shape[-1]
    loss = F.cross_entropy(wide.reshape(-1, classes), torch.tensor(targets).reshape(-1), **options)
    loss = loss.reshape(incoming.shape)
    loss.backward(torch.tensor(incoming).to(loss.dtype))
    return loss, [None if leaf is None else leaf.grad for leaf in torch_leaves]


def check(x, weight, bias, targets, dtype="float32", *, transposed=False, chunk=None, **options):
    values = (x, weight.T.copy() if transposed else weight, bias)
    leaves: list[Any] = [None if v is None else pm.tensor(v, dtype=dtype, requires_grad=True) for v in values]
    loss = pm.ops.linear_cross_entropy(
        leaves[0],
        leaves[1],
        pm.tensor(targets),
        bias=leaves[2],
        transposed=transposed,
        chunk=chunk,
        **options,
    )
    assert loss.dtype == "float32"
    incoming = np.random.default_rng(1).standard_normal(loss.shape).astype(np.float32)
    loss.backward(pm.tensor(incoming))
    same, exact = (
        torch_results(leaves, targets, incoming, kind, transposed, options)
        for kind in (TORCH_DTYPES[dtype], torch.float64)
    )
    assert_as_good_as_torch(loss, same[0], exact[0], "float32" if dtype == "float32" else dtype, "loss")
    for name, leaf, theirs, truth in zip(("x", "weight", "bias"), leaves, same[1], exact[1], strict=True):
        if leaf is not None:
            assert gradient_of(leaf).dtype == dtype
            assert_as_good_as_torch(leaf.grad, theirs, truth, dtype, f"gradient of {name}")


# Chunks that divide the rows, that leave a rest, of one row, and one that holds all of them.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", [None, 1, 5, 7, 100])
def test_linear_cross_entropy_matches_torch_for_any_chunk(dtype, chunk):
    x, weight, bias, targets = draw((2, 7), 20, 33, ignored=0.3)
    check(x, weight, bias, targets, dtype, chunk=chunk)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_cross_entropy_options_combine(dtype, reduction, label_smoothing, transposed, with_bias):
    x, weight, bias, targets = draw((3, 5), 16, 41, ignored=0.3)
    check(
        x,
        weight,
        bias if with_bias else None,
        targets,
        dtype,
        transposed=transposed,
        chunk=4,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


# No leading dimension, one row, a vocabulary of odd size in chunks, and more rows than one chunk holds.
@pytest.mark.parametrize(("shape", "width", "classes"), [((), 8, 5), ((1,), 1, 2), ((3, 2), 12, 5021)])
def test_linear_cross_entropy_takes_any_shape(shape, width, classes):
    x, weight, bias, targets = draw(shape, width, classes)
    check(x, weight, bias, targets)


@pytest.mark.parametrize("ignore_index", [0, 3, 2**40])
def test_linear_cross_entropy_takes_any_ignore_index(ignore_index):
    x, weight, bias, targets = draw((20,), 6, 5)
    targets[::4] = ignore_index
    check(x, weight, bias, targets, ignore_index=ignore_index, chunk=8)


def test_linear_cross_entropy_equals_the_separate_operations_on_strided_operands():
    values, weight, _, targets = (a.astype(np.float32) for a in draw((4, 6), 10, 21))
    targets = targets.astype(np.int32)
    expected = pm.ops.linear_cross_entropy(pm.tensor(values), pm.tensor(weight), pm.tensor(targets))
    for layout in (spaced, transposed):
        loss = pm.ops.linear_cross_entropy(layout(values), layout(weight), layout(targets))
        np.testing.assert_allclose(loss.numpy(), expected.numpy(), rtol=1e-6)


def test_linear_cross_entropy_gives_only_the_gradients_that_are_wanted():
    values = draw((6,), 4, 9)
    whole = [pm.tensor(v, dtype="float32", requires_grad=True) for v in values[:3]]
    targets = pm.tensor(values[3])
    pm.ops.linear_cross_entropy(whole[0], whole[1], targets, bias=whole[2], chunk=4).backward()
    for index in range(3):
        leaves = [pm.tensor(v, dtype="float32", requires_grad=i == index) for i, v in enumerate(values[:3])]
        pm.ops.linear_cross_entropy(leaves[0], leaves[1], targets, bias=leaves[2], chunk=4).backward()
        for i, leaf in enumerate(leaves):
            assert (leaf.grad is not None) is (i == index)
        np.testing.assert_array_equal(gradient_of(leaves[index]).numpy(), gradient_of(whole[index]).numpy())


def test_linear_cross_entropy_accumulates_into_a_tied_weight():
    x, weight, _, targets = draw((9,), 7, 11)
    table = pm.tensor(weight, dtype="float32", requires_grad=True)
    reference = torch.tensor(weight, requires_grad=True)
    indices = np.arange(9)
    for _ in range(2):  # the second pass adds to the gradient of the first
        states = pm.ops.embedding(pm.tensor(indices), table) + pm.tensor(x, dtype="float32")
        (pm.ops.linear_cross_entropy(states, table, pm.tensor(targets), chunk=4) * 0.25).backward()
        theirs = F.embedding(torch.tensor(indices), reference) + torch.tensor(x)
        (F.cross_entropy(theirs @ reference.T, torch.tensor(targets)) * 0.25).backward()
    np.testing.assert_allclose(gradient_of(table).numpy(), reference.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_linear_cross_entropy_without_any_target_that_counts_is_zero(reduction):
    x, weight, bias, targets = draw((5,), 3, 4)
    leaves = [pm.tensor(v, dtype="float32", requires_grad=True) for v in (x, weight, bias)]
    ignored = pm.tensor(np.full_like(targets, -100))
    loss = pm.ops.linear_cross_entropy(leaves[0], leaves[1], ignored, bias=leaves[2], reduction=reduction)
    loss.backward(pm.ones(loss.shape))
    assert (loss.numpy() == 0).all()
    assert all((gradient_of(leaf).numpy() == 0).all() for leaf in leaves)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_linear_cross_entropy_of_nothing_is_zero(reduction):
    x, weight = pm.zeros((0, 3), requires_grad=True), pm.ones((4, 3), requires_grad=True)
    loss = pm.ops.linear_cross_entropy(x, weight, pm.empty((0,), "int64"), reduction=reduction)
    loss.backward(pm.ones(loss.shape))
    assert loss.numpy().sum() == 0
    assert gradient_of(x).shape == (0, 3)
    assert (gradient_of(weight).numpy() == 0).all()


def test_linear_cross_entropy_bits_do_not_depend_on_threads():
    values = draw((70,), 24, 501, ignored=0.1)
    threads, results = pm.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            x, weight = (pm.tensor(v, dtype="float32", requires_grad=True) for v in values[:2])
            loss = pm.ops.linear_cross_entropy(x, weight, pm.tensor(values[3]), chunk=32)
            loss.backward()
            results.append(
                loss.numpy().tobytes()
                + gradient_of(x).numpy().tobytes()
                + gradient_of(weight).numpy().tobytes()
            )
    finally:
        pm.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.host_only
def test_linear_cross_entropy_never_holds_all_logits():
    x, weight, _, targets = draw((4096,), 8, 4000)
    states, table = (pm.tensor(v, dtype="float32", requires_grad=True) for v in (x, weight))
    pm.reset_peak_memory()
    before = pm.memory_stats()["peak_in_use"]
    pm.ops.linear_cross_entropy(states, table, pm.tensor(targets), chunk=32).backward()
    assert pm.memory_stats()["peak_in_use"] - before < 4096 * 4000 * 4 / 8


def test_linear_cross_entropy_names_the_target_that_is_no_class():
    targets = np.zeros((2, 6), np.int64)
    targets[1, 4] = 10
    with pytest.raises(ValueError, match=r"linear_cross_entropy: targets\[1, 4\] is 10, but the 10 classes"):
        pm.ops.linear_cross_entropy(pm.zeros((2, 6, 3)), pm.zeros((10, 3)), pm.tensor(targets), chunk=5)


@pytest.mark.parametrize(
    ("match", "shapes", "options"),
    [
        (r"weight must have shape \(out, 3\)", ((2, 3), (4, 5), (2,)), {}),
        (r"weight must have shape \(3, out\)", ((2, 3), (4, 3), (2,)), {"transposed": True}),
        (r"targets must have shape \(2,\) .* got \(3,\)", ((2, 3), (4, 3), (3,)), {}),
        ("reduction 'avg' is unknown", ((2, 3), (4, 3), (2,)), {"reduction": "avg"}),
        ("label_smoothing must lie between 0 and 1", ((2, 3), (4, 3), (2,)), {"label_smoothing": 2.0}),
        ("chunk must be at least 1 row, got 0", ((2, 3), (4, 3), (2,)), {"chunk": 0}),
    ],
)
def test_linear_cross_entropy_names_what_is_wrong(match, shapes, options):
    x, weight, targets = pm.zeros(shapes[0]), pm.zeros(shapes[1]), pm.zeros(shapes[2], "int64")
    with pytest.raises(ValueError, match=f"linear_cross_entropy: .*{match}"):
        pm.ops.linear_cross_entropy(x, weight, targets, **options)


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_cross_entropy_loss_module_passes_its_options_on(transposed):
    x, weight, bias, targets = draw((6,), 4, 9, ignored=0.3)
    tensors = [pm.tensor(v, dtype="float32") for v in (x, weight.T.copy() if transposed else weight, bias)]
    module = pm.nn.LinearCrossEntropyLoss(-100, 0.1, "sum", transposed, chunk=4)
    expected = pm.nn.CrossEntropyLoss(-100, 0.1, "sum")(
        pm.ops.linear(tensors[0], tensors[1], tensors[2], transposed=transposed), pm.tensor(targets)
    )
    loss = module(tensors[0], tensors[1], pm.tensor(targets), tensors[2])
    np.testing.assert_allclose(loss.numpy(), expected.numpy(), rtol=1e-6)
    assert "chunk=4" in repr(module)
