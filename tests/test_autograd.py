"""The tape itself: sums over uses, who owns memory, what is freed when, and its errors."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import pymodel as pm
from pymodel.autograd import ACCUMULATED, PartialGradient, accumulation_buffer, record


def leaf(*values: float) -> Any:
    """A float32 vector that requires grad; of type Any, because its gradient is known to be there."""
    return pm.tensor(np.array(values, dtype=np.float32), requires_grad=True)


def shares_memory(a: pm.Tensor, b: pm.Tensor) -> bool:
    return np.shares_memory(a.numpy(), b.numpy())


# -- sums over the uses of a tensor -----------------------------------------------------------------


def test_autograd_sums_over_shared_subexpressions():
    x = leaf(2.0, 3.0)
    square = x * x
    (square * square + square).sum().backward()
    values = np.array([2.0, 3.0])
    np.testing.assert_allclose(x.grad.numpy(), 4 * values**3 + 2 * values)


def test_autograd_diamonds_are_walked_once():
    x = leaf(1.0)
    calls: list[Any] = []

    def backward(dy):
        calls.append(1)
        return dy

    y = pm.Tensor(x._array)
    record("counted", y, (x,), backward)
    left, right = y * 2.0, y * 3.0
    (left + right + y).backward()
    assert x.grad.tolist() == [6.0]
    assert len(calls) == 1


def test_autograd_stack_of_diamonds():
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_autograd_accumulates_over_backward_calls():
    x = leaf(1.0, 2.0)
    (x * 3.0).sum().backward()
    buffer = x.grad.data_ptr()
    (x * 4.0).sum().backward()
    assert x.grad.tolist() == [7.0, 7.0]
    assert x.grad.data_ptr() == buffer, "the second gradient is added in place"
    x.grad = None
    (x * 5.0).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_autograd_one_leaf_used_twice_by_one_operation():
    x = leaf(1.0, 2.0)
    (x + x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_autograd_backward_of_a_leaf():
    x: Any = pm.tensor(3.0, requires_grad=True)
    x.backward()
    x.backward()
    assert x.grad.item() == 2.0


def test_autograd_only_the_uses_under_the_root_count():
    x = leaf(1.0, 2.0)
    used, _unused = x * 2.0, x * 100.0
    used.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_autograd_outputs_that_are_not_used_have_no_gradient():
    x: Any = pm.tensor(np.ones((3, 2), np.float32), requires_grad=True)
    first, _second, third = x.unbind(0)
    (first + third).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]


def test_autograd_non_scalar_root_takes_a_gradient():
    x = leaf(1.0, 2.0)
    (x * 3.0).backward(pm.tensor(np.array([1.0, 10.0], np.float32)))
    assert x.grad.tolist() == [3.0, 30.0]


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


# -- recording or not -------------------------------------------------------------------------------


def test_autograd_no_grad_as_context_and_decorator():
    x = leaf(1.0)
    guard = pm.no_grad()

    @pm.no_grad()
    def double(value):
        """Doc."""
        assert not pm.is_grad_enabled()
        return value * 2.0

    for _ in range(2):  # a decorated function and one object may be used again
        assert not double(x).requires_grad
        with guard:
            assert not (x * 2.0).requires_grad
            with pm.enable_grad():
                assert (x * 2.0).requires_grad
            with guard:
                assert not pm.is_grad_enabled()
            assert not pm.is_grad_enabled()
        assert pm.is_grad_enabled()
    assert double.__name__ == "double"
    assert double.__doc__ == "Doc."
    with pm.set_grad_enabled(True):
        assert pm.is_grad_enabled()


def test_autograd_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), pm.no_grad():
        raise KeyError
    assert pm.is_grad_enabled()


def test_autograd_no_grad_around_a_generator_is_an_error():
    def numbers():
        yield 1

    with pytest.raises(TypeError, match=r"numbers: a generator.*between its yields"):
        pm.no_grad()(numbers)


def test_autograd_no_grad_is_for_one_thread():
    seen: list[Any] = []
    entered, leave = threading.Event(), threading.Event()

    def other():
        seen.append(pm.is_grad_enabled())
        with pm.enable_grad(), shared:
            seen.append(pm.is_grad_enabled())
            entered.set()
            leave.wait(10)
        seen.append(pm.is_grad_enabled())

    shared = pm.no_grad()
    with shared:
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
    assert pm.is_grad_enabled()
    leave.set()
    thread.join(10)
    assert seen == [True, False, True]


def test_autograd_threads_have_tapes_of_their_own():
    results: list[Any] = [None] * 4

    def work(index):
        x = leaf(float(index), 1.0)
        for _ in range(20):
            (x * x).sum().backward()
        results[index] = x.grad.tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [[40.0 * i, 40.0] for i in range(4)]


def test_autograd_nothing_is_recorded_without_need():
    plain = pm.tensor([1.0])
    assert not (plain * 2.0).requires_grad
    assert (plain * leaf(1.0)).requires_grad
    assert not (leaf(1.0) * 2.0).detach().requires_grad


def test_autograd_frozen_after_forward_gets_no_gradient():
    x, w = leaf(1.0), leaf(2.0)
    y = x * w
    w.requires_grad_(False)
    y.backward()
    assert w.grad is None
    assert x.grad.tolist() == [2.0]


# -- hooks ------------------------------------------------------------------------------------------


def test_autograd_hooks_see_the_complete_gradient_once():
    x = leaf(1.0, 2.0)
    seen: list[Any] = []
    remove = x.register_hook(lambda tensor: seen.append(tensor.grad.tolist()))
    assert accumulation_buffer(x) is None
    for _ in range(2):
        (x * 2.0 + x + x[:1].sum()).sum().backward()
    assert seen == [[5.0, 3.0], [10.0, 6.0]]
    remove()
    x.sum().backward()
    assert len(seen) == 2


def test_autograd_hooks_run_before_the_walk_ends():
    events: list[str] = []
    early, late = leaf(1.0), leaf(2.0)
    early.register_hook(lambda _: events.append("early"))
    late.register_hook(lambda _: events.append("late"))
    marked = early * 1.0
    between = pm.Tensor(marked._array)

    def backward(dy):
        events.append("between")
        return dy

    record("between", between, (marked,), backward)
    (between * late).backward()
    assert events == ["late", "between", "early"]


def test_autograd_several_hooks_and_a_root_that_is_a_leaf():
    x: Any = pm.tensor(1.0, requires_grad=True)
    calls: list[Any] = []
    remove = x.register_hook(lambda _: calls.append("a"))
    x.register_hook(lambda _: calls.append("b"))
    x.backward()
    remove()
    x.backward()
    assert calls == ["a", "b", "b"]


def test_autograd_hooks_are_for_leaves():
    with pytest.raises(RuntimeError, match=r"register_hook.*leaves"):
        (leaf(1.0) * 2.0).register_hook(print)


# -- errors -----------------------------------------------------------------------------------------


def test_autograd_a_consumed_graph_is_an_error():
    x = leaf(1.0, 2.0)
    shared = x * x
    loss, other = shared.sum(), (shared * 2.0).sum()
    loss.backward()
    for again in (loss, other):
        with pytest.raises(RuntimeError, match=r"already consumed; run the forward pass again"):
            again.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_autograd_backward_errors_name_what_is_wrong():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="does not depend on any tensor that requires grad"):
        pm.tensor([1.0]).backward()
    with pytest.raises(ValueError, match=r"shape \(2,\) needs a gradient of that shape"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"must be float32 of shape \(2,\), got float32 of shape \(3,\)"):
        (x * 2.0).backward(pm.ones((3,)))
    with pytest.raises(ValueError, match=r"got bfloat16"):
        (x * 2.0).backward(pm.ones((2,), dtype="bfloat16"))
    y = x * 2.0
    with pytest.raises(ValueError, match="needs a gradient"):
        y.backward()
    y.backward(pm.ones((2,)))  # the failed call consumed nothing
    assert x.grad.tolist() == [2.0, 2.0]


def test_autograd_only_floating_leaves_require_grad():
    with pytest.raises(TypeError, match="only floating-point tensors have gradients, got int64"):
        pm.tensor([1], requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        (leaf(1.0) * 2.0).requires_grad_(False)


def test_autograd_a_failing_backward_leaves_no_gradients_behind():
    x = leaf(1.0)
    shared = x * 2.0
    broken = pm.Tensor(shared._array)

    def backward(dy):
        raise ArithmeticError("broken")

    record("broken", broken, (shared,), backward)
    with pytest.raises(ArithmeticError):
        (shared * 3.0 + broken).backward()
    with pytest.raises(RuntimeError, match="already consumed"):
        shared.backward()
    assert x.grad is None


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
