"""Reverse-mode differentiation: a short tape over operations that know their own backward.

An operation computes on arrays (`_core.Array`), wraps its result in a `Tensor` and calls `record`
with a function from the gradient of the output to those of the inputs. `backward` walks the
recorded nodes from the newest to the oldest, which is a topological order because an operation
is always recorded after its inputs.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pymodel import _core
from pymodel.errors import DeviceError

if TYPE_CHECKING:
    from pymodel.tensor import Tensor

# What a backward function gives for one input: its gradient, a PartialGradient, None where none is
# wanted, or ACCUMULATED when it has already added the gradient to the input's `.grad`.
ACCUMULATED: Any = object()

_order = itertools.count()
_Function = TypeVar("_Function", bound=Callable[..., Any])

# -- whether operations are recorded ----------------------------------------------------------------


class _Mode(threading.local):
    enabled = True

    def __init__(self) -> None:
        self.before: list[bool] = []  # one entry per block that the thread is in


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.enabled


class set_grad_enabled(contextlib.ContextDecorator):
    """Records operations, or not, inside a `with` block or a decorated function, in this thread.

    It holds no state of its own, so one object may be used again, nested and by many threads.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        _mode.before.append(_mode.enabled)
        _mode.enabled = self._enabled

    def __exit__(self, *exception: object) -> None:
        _mode.enabled = _mode.before.pop()

    def __call__(self, function: _Function) -> _Function:
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"{function.__name__}: a generator runs after the decorated call has returned; "
                "put `with no_grad():` around the computation between its yields"
            )
        return super().__call__(function)


def no_grad() -> set_grad_enabled:
    """Does not record inside a `with` block or a decorated function: no memory for backward."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Records again inside a `no_grad` block."""
    return set_grad_enabled(True)


# -- the tape ---------------------------------------------------------------------------------------

# Where an input came from: the (node, output index) that computed it, or the input itself, a leaf.
_Source = Any


class Node:
    """One recorded operation: where its inputs came from, and how gradients pass on to them.

    It does not hold computed inputs, so they stay in memory only while a backward function needs
    them. An entry of `inputs` is None where no gradient goes. `takes_so_far` is explained in `record`.
    """

    __slots__ = ("backward", "gradients", "inputs", "name", "order", "takes_so_far")

    def __init__(
        self,
        name: str,
        inputs: Sequence[Tensor | None],
        backward: Callable[..., Any],
        outputs: int,
        takes_so_far: bool,
    ) -> None:
        self.name = name
        self.takes_so_far = takes_so_far
        self.inputs: tuple[_Source | None, ...] = tuple([_source(x) for x in inputs])
        self.backward: Callable[..., Any] | None = backward
        self.gradients: list[_Gradient | None] = [None] * outputs
        self.order = next(_order)

    def consume(self) -> None:
        """Lets go of everything that was saved for backward."""
        self.backward, self.inputs, self.gradients = None, (), []


def _source(tensor: Tensor | None) -> _Source | None:
    if tensor is None or not tensor.requires_grad:
        return None
    return tensor if tensor._node is None else (tensor._node, tensor._output_index)


class PartialGradient:
    """The gradient of an input of which only a part was used, such as a slice: zero elsewhere.

    All parts of one tensor are added into one buffer, so that taking it to pieces costs no full
    tensor of zeros per piece.

    Args: shape, dtype and device of the input; `add_to`, which adds the gradient to a contiguous
    array of that kind.
    """

    __slots__ = ("add_to", "device", "dtype", "shape")

    def __init__(
        self, shape: Sequence[int], dtype: str, device: str, add_to: Callable[[_core.Array], None]
    ) -> None:
        self.shape, self.dtype, self.device, self.add_to = shape, dtype, device, add_to


# A gradient being summed over the uses of a tensor, and whether nothing else looks at its memory, so
# that it can be added to.
_Gradient = tuple[_core.Array, bool]


def wants_grad(*tensors: Tensor | None) -> bool:
    """Whether an operation on these tensors has to be recorded."""
    if _mode.enabled:
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def record(
    name: str,
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor | None],
    backward: Callable[..., Any],
    takes_so_far: bool = False,
) -> None:
    """Puts an operation on the tape.

    `backward` takes one gradient array per output (None for an output that was not used) and
    returns one entry per input. It may return the very gradient it was given, or a view of it, but
    no memory that it keeps or returns for another input. It should capture arrays it needs and
    flags, not tensors, which would stay in memory with it.

    With `takes_so_far` it gets one more argument: what later uses of the first input have given for its
    gradient so far, or None. It returns the sum of that and its own share, which its kernel adds while it
    writes, where the walk would need one more pass over memory.
    """
    results = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    node = Node(name, inputs, backward, len(results), takes_so_far)
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


# -- the walk back ----------------------------------------------------------------------------------


def backward(root: Tensor, gradient: Tensor | None = None) -> None:
    """Adds d root / d leaf to `.grad` of every leaf that requires it.

    Saved tensors are freed as they are consumed, so a second call on the same graph is an error.
    """
    if not root.requires_grad:
        raise RuntimeError("backward: the tensor does not depend on any tensor that requires grad")
    seed = _seed(root, gradient)
    nodes, uses = _reachable(root)
    with no_grad():
        try:
            _deliver(_source(root), seed, owned=gradient is None, uses=uses)
            for node in nodes:
                _step(node, uses)
        except BaseException:
            # Gradients delivered so far must not be found by a later walk over a shared node.
            for node in nodes:
                node.consume()
            raise


def _seed(root: Tensor, gradient: Tensor | None) -> _core.Array:
    """The gradient that the walk starts from."""
    if gradient is not None:
        if gradient.shape != root.shape or gradient.dtype != root.dtype:
            raise ValueError(
                f"backward: the gradient must be {root.dtype} of shape {root.shape}, "
                f"got {gradient.dtype} of shape {gradient.shape}"
            )
        if gradient.device != root.device:
            raise DeviceError(
                f"backward: the tensor lies on {root.device} and the gradient on {gradient.device}; "
                f'move the gradient with .to("{root.device}")'
            )
        return gradient._array
    if root.numel() != 1:
        raise ValueError(
            f"backward: a tensor of shape {root.shape} needs a gradient of that shape; "
            "only a scalar starts from 1 by itself"
        )
    seed = root._array.empty_like()
    _core.fill(seed, 1.0)
    return seed


def _reachable(root: Tensor) -> tuple[list[Node], dict[int, int]]:
    """All nodes under the root, newest first, and how often each leaf with hooks is used by them."""
    start = _source(root)
    found: dict[int, Node] = {}
    uses: dict[int, int] = {}
    pending = [start]
    while pending:
        source = pending.pop()
        if source is None:
            continue
        if not isinstance(source, tuple):
            if source._hooks:
                uses[id(source)] = uses.get(id(source), 0) + 1
            continue
        node = source[0]
        if node.order in found:
            continue
        if node.backward is None:
            raise RuntimeError(
                f"backward: the graph of '{node.name}' was already consumed; run the forward pass again"
            )
        found[node.order] = node
        pending.extend(node.inputs)
    return [found[order] for order in sorted(found, reverse=True)], uses


def _step(node: Node, uses: dict[int, int]) -> None:
    """Runs one node's backward and hands the results on."""
    function, inputs, slots = node.backward, node.inputs, node.gradients
    node.consume()
    if function is None or slots.count(None) == len(slots):
        results: Any = (None,) * len(inputs)
    else:
        if node.takes_so_far:
            slots.append(_taken_gradient(inputs[0]))
        results = function(*[None if slot is None else slot[0] for slot in slots])
        if not isinstance(results, tuple):
            results = (results,)
    # A fresh array may be added to in place. One that shows an incoming gradient may if it is the
    # only heir to all of it.
    owned = _core.sole_heirs(results, slots)
    for source, result, own in zip(inputs, results, owned, strict=True):
        if source is not None and (result is not None or uses):
            _deliver(source, result, own, uses)


def _taken_gradient(source: _Source | None) -> _Gradient | None:
    """What has been delivered to the node that made a tensor, which then holds it no longer."""
    if not isinstance(source, tuple):
        return None
    node, index = source
    gradient: _Gradient | None = node.gradients[index]
    node.gradients[index] = None
    return gradient


def _deliver(source: _Source, gradient: Any, owned: bool, uses: dict[int, int]) -> None:
    """Adds a gradient to the node that made the tensor, or to `.grad` of a leaf."""
    wanted = gradient is not None and gradient is not ACCUMULATED
    if isinstance(source, tuple):
        node, index = source
        if wanted:
            node.gradients[index] = _sum(node.gradients[index], gradient, owned)
        return
    if wanted and source.requires_grad:
        _add_to_leaf(source, gradient, owned)
    if uses and source._hooks and source.grad is not None and id(source) in uses:
        uses[id(source)] -= 1
        if uses[id(source)] == 0:
            for hook in source._hooks:
                hook(source)


def _add_to_leaf(leaf: Tensor, gradient: Any, owned: bool) -> None:
    if leaf.grad is not None:
        _sum((leaf.grad._array, True), gradient, owned)
        return
    if isinstance(gradient, PartialGradient):
        gradient, owned = _sum(None, gradient, owned)
    leaf._set_grad(gradient if owned else _copy(gradient))


def _sum(total: _Gradient | None, gradient: Any, owned: bool) -> _Gradient:
    """total + gradient, in place where the memory of `total` allows."""
    partial = isinstance(gradient, PartialGradient)
    if total is None:
        if not partial:
            return gradient, owned
        buffer = _core.empty(gradient.shape, gradient.dtype, gradient.device)
        _core.fill(buffer, 0.0)
    else:
        array, own = total
        if not partial:
            buffer = array if own else array.empty_like()
            _core.binary("add", array, gradient, buffer)
            return buffer, True
        buffer = array if own else _copy(array)
    gradient.add_to(buffer)
    return buffer, True


def _copy(array: _core.Array) -> _core.Array:
    copy = array.empty_like()
    _core.copy(array, copy)
    return copy
