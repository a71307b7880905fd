"""Who owns the memory of gradients, and when saved memory is freed."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from leaves import leaf, shares_memory

import pymodel as pm
from pymodel.autograd import ACCUMULATED, PartialGradient, accumulation_buffer, record

# -- who owns memory --------------------------------------------------------------------------------


def test_autograd_gradients_of_a_sum_do_not_share_memory():
    x, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x + b
    seed = pm.ones((2,))
    y.backward(seed)
    assert not shares_memory(x.grad, b.grad)
    assert not shares_memory(x.grad, seed)
    assert not shares_memory(b.grad, seed)
    x.grad.numpy()[...] = 9
    assert b.grad.tolist() == [1.0, 1.0]
    assert seed.tolist() == [1.0, 1.0]


def test_autograd_views_of_one_gradient_do_not_share_memory():
    x, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x.reshape(1, 2) + b.reshape(1, 2)).sum().backward()
    (x.reshape(2, 1) + b.reshape(2, 1)).sum().backward()
    assert not shares_memory(x.grad, b.grad)
    assert x.grad.tolist() == b.grad.tolist() == [2.0, 2.0]


def test_autograd_later_uses_do_not_write_into_a_shared_gradient():
    # The gradient of `total` passes unchanged to x's and b's nodes; x has a second use, whose
    # gradient is added to what arrived first. b must not see it.
    x, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    early, other = x * 1.0, b * 1.0
    total = early + other
    (total + early * 5.0).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    assert b.grad.tolist() == [1.0, 1.0]


def test_autograd_broadcast_gradients_are_materialised():
    x: Any = pm.tensor(np.ones((3, 4), np.float32), requires_grad=True)
    (x.mean() + x.sum()).backward()
    assert x.grad.is_contiguous()
    np.testing.assert_allclose(x.grad.numpy(), 1 + 1 / 12)


def test_autograd_fresh_broadcast_gradients_are_not_added_to_in_place():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    scaled = y * 5.0
    flat = pm.Tensor(y._array)
    record("flat", flat, (y,), lambda dy: pm.ones((1,))._array.expand([2]))  # newest: delivered first
    (flat + scaled).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_autograd_the_only_heir_of_a_gradient_takes_it_over():
    x: Any = pm.tensor(np.ones((64, 64), np.float32), requires_grad=True)
    y = x.reshape(4096).reshape(64, 64) * 2.0
    seed = pm.ones((64, 64))
    pm.reset_peak_memory()
    before = pm.memory_stats()["in_use"]
    y.backward(seed)
    assert x.grad.tolist() == [[2.0] * 64] * 64
    # The gradient of the product and nothing else: it went through both reshapes into x.grad.
    assert pm.memory_stats()["peak_in_use"] - before == 64 * 64 * 4


def test_autograd_partial_gradients_share_one_buffer():
    x: Any = pm.tensor(np.zeros((100, 1000), np.float32), requires_grad=True)
    y = x * 1.0
    pieces = [y[i] * float(i) for i in range(100)]
    total = pieces[0]
    for piece in pieces[1:]:
        total = total + piece
    del pieces, piece
    pm.reset_peak_memory()
    before = pm.memory_stats()["in_use"]
    total.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.repeat(np.arange(100.0), 1000).reshape(100, 1000))
    assert pm.memory_stats()["peak_in_use"] - before < 4 * 100 * 1000 * 4


@pytest.mark.parametrize("partial_first", [True, False])
def test_autograd_partial_gradient_joins_a_shared_one(partial_first):
    x, b = leaf(1.0, 2.0, 3.0), leaf(1.0, 1.0, 1.0)
    y, c = x * 1.0, b * 1.0
    if partial_first:  # the walk starts from the newest
        total = y + c
        part = y[1:]
    else:
        part = y[1:]
        total = y + c
    ((total * 1.0).sum() + part.sum()).backward()
    assert x.grad.tolist() == [1.0, 2.0, 2.0]
    assert b.grad.tolist() == [1.0, 1.0, 1.0]


def test_autograd_partial_gradient_of_a_leaf_is_added_in_place():
    x = leaf(1.0, 2.0, 3.0)
    x[:2].sum().backward()
    x[1:].sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 1.0]


def test_autograd_operations_may_add_to_a_leaf_themselves():
    x = leaf(1.0, 2.0)
    assert accumulation_buffer(x) is None
    (x * 1.0).sum().backward()

    def backward(dy):
        x.grad.numpy()[...] += 5
        return ACCUMULATED

    y = pm.Tensor(x._array)
    record("adds", y, (x,), backward)
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


# -- memory -----------------------------------------------------------------------------------------


def test_autograd_computed_inputs_live_only_as_long_as_backward_needs_them():
    x = leaf(1.0, 2.0)
    doubled = x * 2.0
    alive = weakref.ref(doubled)
    total = doubled + 1.0  # the gradient of a sum needs neither side
    del doubled
    assert alive() is None
    total.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_autograd_saved_memory_is_freed_during_backward():
    x: Any = pm.tensor(np.ones(10_000, np.float32), requires_grad=True)
    base = pm.memory_stats()["in_use"]
    held: list[int] = []

    def probe(value):
        result = pm.Tensor(value._array)

        def backward(dy):
            held.append(pm.memory_stats()["in_use"] - base)
            return dy

        record("probe", result, (value,), backward)
        return result

    y = x
    for _ in range(10):
        y = probe(y)
        y = y * y
    y = y.sum()
    y.backward()
    assert len(held) == 10
    assert held == sorted(held, reverse=True), f"bytes in use while walking back: {held}"
    assert held[0] - held[-1] >= 8 * 40_000
    del y
    x.grad = None
    assert pm.memory_stats()["in_use"] == base


def test_autograd_graphs_that_are_dropped_free_their_memory_at_once():
    gc.disable()
    try:
        x: Any = pm.tensor(np.ones(1000, np.float32), requires_grad=True)
        before = pm.memory_stats()["in_use"]
        y = (x * x).reshape(10, 100)[2:5].sum()
        assert pm.memory_stats()["in_use"] > before
        del y
        assert pm.memory_stats()["in_use"] == before, "a reference cycle holds the graph"
    finally:
        gc.enable()


@pytest.mark.parametrize("length", [10_000])
def test_autograd_deep_graphs_need_no_recursion(length):
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1.0]
    z = x
    for _ in range(length):
        z = (z * 1.0).reshape(1)
    del z  # dropped without backward: freeing walks the whole chain


def test_autograd_partial_gradient_alone_is_zero_elsewhere():
    x = leaf(1.0, 2.0, 3.0)
    y = pm.Tensor(x._array)

    def add_to(buffer):
        buffer.numpy()[1] += 7

    record("part", y, (x,), lambda dy: PartialGradient((3,), "float32", "cpu", add_to))
    y.backward(pm.ones((3,)))
    assert x.grad.tolist() == [0.0, 7.0, 0.0]
