"""Reverse-mode differentiation: a short tape over operations that know their own backward.

An operation computes on arrays (`_core.Array`), wraps its result in a `Tensor` and calls `record`
with a function from the gradient of the output to those of the inputs. `backward` walks the
recorded nodes from the newest to the oldest, which is a topological order because an operation
is always recorded after its inputs.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pymodel import _core

if TYPE_CHECKING:
    from pymodel.tensor import Tensor

# What a backward function gives for one input: its gradient, None where none is wanted, or
# ACCUMULATED when it has already added the gradient to the input's `.grad`.
ACCUMULATED: Any = object()

_order = itertools.count()
_mode = threading.local()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return getattr(_mode, "enabled", True)


@contextlib.contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Records operations, or not, inside a `with` block or a decorated function."""
    before = is_grad_enabled()
    _mode.enabled = enabled
    try:
        yield
    finally:
        _mode.enabled = before


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Does not record inside a `with` block or a decorated function: no memory for backward."""
    return set_grad_enabled(False)


def enable_grad() -> contextlib.AbstractContextManager[None]:
    """Records again inside a `no_grad` block."""
    return set_grad_enabled(True)


class Node:
    """One recorded operation: its inputs, and how gradients pass from outputs to inputs."""

    __slots__ = ("backward", "gradients", "inputs", "name", "order")

    def __init__(
        self, name: str, inputs: Sequence[Tensor | None], backward: Callable[..., Any], outputs: int
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.backward: Callable[..., Any] | None = backward
        self.gradients: list[_Gradient | None] = [None] * outputs
        self.order = next(_order)


class _Gradient:
    """A gradient being summed over the uses of a tensor."""

    __slots__ = ("array", "owned")

    def __init__(self, array: _core.Array, owned: bool) -> None:
        self.array = array
        self.owned = owned  # whether nothing else looks at this memory, so that it can be added to

    def add(self, other: _core.Array) -> None:
        out = self.array if self.owned else self.array.empty_like()
        _core.binary("add", self.array, other, out)
        self.array = out
        self.owned = True


def wants_grad(*tensors: Tensor | None) -> bool:
    """Whether an operation on these tensors has to be recorded."""
    return is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def record(
    name: str,
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor | None],
    backward: Callable[..., Any],
) -> None:
    """Puts an operation on the tape.

    `backward` takes one gradient array per output (None for an output that was not used) and
    returns one entry per input. It may return the very gradient it was given, or a view of it, but
    not one fresh array for two inputs.
    """
    results = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    node = Node(name, inputs, backward, len(results))
    for index, result in enumerate(results):
        result.requires_grad = True
        result._node = node
        result._output_index = index


def accumulation_buffer(tensor: Tensor) -> _core.Array | None:
    """The `.grad` memory of a leaf that a product may add to directly (beta = 1), if there is one.

    A backward function that uses it returns ACCUMULATED for that input.
    """
    if tensor._node is None and tensor.grad is not None and not tensor._hooks:
        return tensor.grad._array
    return None


def backward(root: Tensor, gradient: Tensor | None = None) -> None:
    """Adds d root / d leaf to `.grad` of every leaf that requires it.

    Saved tensors are freed as they are consumed, so a second call on the same graph is an error.
    """
    if not root.requires_grad:
        raise RuntimeError("backward: the tensor does not depend on any tensor that requires grad")
    if gradient is None:
        if root.numel() != 1:
            raise ValueError(
                f"backward: a tensor of shape {root.shape} needs a gradient of that shape; "
                "only a scalar starts from 1 by itself"
            )
        seed = root._array.empty_like()
        _core.fill(seed, 1.0)
    else:
        if gradient.shape != root.shape or gradient.dtype != root.dtype:
            raise ValueError(
                f"backward: the gradient must be {root.dtype} of shape {root.shape}, "
                f"got {gradient.dtype} of shape {gradient.shape}"
            )
        seed = gradient._array
    with no_grad():
        _deliver(root, seed, owned=gradient is None)
        for node in _reachable(root):
            _step(node)


def _reachable(root: Tensor) -> list[Node]:
    """All nodes under the root, newest first."""
    if root._node is None:
        return []
    found = {root._node.order: root._node}
    pending = [root._node]
    while pending:
        node = pending.pop()
        if node.backward is None:
            raise RuntimeError(
                f"backward: the graph of '{node.name}' was already consumed; run the forward pass again"
            )
        for tensor in node.inputs:
            child = None if tensor is None else tensor._node
            if child is not None and child.order not in found:
                found[child.order] = child
                pending.append(child)
    return [found[order] for order in sorted(found, reverse=True)]


def _step(node: Node) -> None:
    """Runs one node's backward and hands the results on."""
    incoming = [None if g is None else g.array for g in node.gradients]
    function, inputs = node.backward, node.inputs
    node.backward, node.inputs, node.gradients = None, (), []
    if function is None or all(g is None for g in incoming):
        return
    results = function(*incoming)
    if not isinstance(results, tuple):
        results = (results,)
    for tensor, result in zip(inputs, results, strict=True):
        if tensor is None or result is None or result is ACCUMULATED or not tensor.requires_grad:
            continue
        shared = any(g is not None and result.shares_storage(g) for g in incoming)
        _deliver(tensor, result, owned=not shared)


def _deliver(tensor: Tensor, array: _core.Array, owned: bool) -> None:
    """Adds a gradient to the node that made the tensor, or to `.grad` of a leaf."""
    node = tensor._node
    if node is not None:
        slot = node.gradients[tensor._output_index]
        if slot is None:
            node.gradients[tensor._output_index] = _Gradient(array, owned)
        else:
            slot.add(array)
        return
    from pymodel.tensor import Tensor  # the tape and the tensor know each other

    if tensor.grad is not None:
        _core.binary("add", tensor.grad._array, array, tensor.grad._array)
    elif owned and array.contiguous:
        tensor.grad = Tensor(array)
    else:
        copy = array.empty_like()
        _core.copy(array, copy)
        tensor.grad = Tensor(copy)
    for hook in tensor._hooks or ():
        hook(tensor)
