"""The tape itself: sums over uses, recording or not, hooks and errors. Memory: test_autograd_memory.py."""

import threading
from typing import Any

import numpy as np
import pytest
from leaves import leaf

import pymodel as pm
from pymodel.autograd import accumulation_buffer, record

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


def test_autograd_operations_may_add_what_later_uses_gave():
    x = leaf(1.0, 2.0)
    given: list[Any] = []

    def backward(dy, so_far):
        given.append(None if so_far is None else so_far.numpy().tolist())
        return dy if so_far is None else pm.tensor(dy.numpy() + so_far.numpy())._array

    def passed_on(value):
        result = pm.Tensor(value._array)
        record("passed_on", result, (value,), backward, takes_so_far=True)
        return result

    middle = x * 1.0
    y = passed_on(middle) * 2.0 + middle * 3.0 + middle * 5.0
    (passed_on(x) + y + x).backward(pm.tensor(np.array([1.0, 10.0], np.float32)))
    # A leaf has its gradients in `.grad`, with those of earlier walks, and none to hand out.
    assert given == [None, [8.0, 80.0]]
    assert x.grad.tolist() == [12.0, 120.0]


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
