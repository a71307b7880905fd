"""The tensor: a strided array on a device, with a place on the tape.

Arithmetic and shape methods are attached by `pymodel.ops`, which this module does not know; their
types stand in `tensor_methods.pyi`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pymodel import _core, autograd
from pymodel.array import DEFAULT_STREAM, DLPACK_CPU, DLPACK_CUDA, ArrayBase
from pymodel.device import CPU, get_default_device
from pymodel.device import device as Device
from pymodel.dtypes import TRAVELS_AS_UINT16, dtype_of, numpy_dtype

if TYPE_CHECKING:
    from pymodel.tensor_methods import TensorMethods  # what pymodel.ops attaches
else:
    TensorMethods = object


class Tensor(ArrayBase, TensorMethods):
    """An n-dimensional array on a device.

    dtypes: float32, float16, bfloat16, int32, int64, uint8 and bool, named by strings. Views
    (slices, transposes) share memory with what they were taken from.

    Made by `pymodel.tensor` (copies), `pymodel.from_numpy` and `pymodel.from_dlpack` (share memory).
    """

    __slots__ = ("__weakref__", "_array", "_hooks", "_node", "_output_index", "grad", "requires_grad")

    def __init__(self, array: _core.Array, requires_grad: bool = False) -> None:
        self._array = array
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self._node: autograd.Node | None = None
        self._output_index = 0
        self._hooks: list[Callable[[Tensor], Any]] | None = None

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=100)
        extra = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({values}, dtype={self.dtype}, device={self.device}{extra})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy and pickle: values, device and requires_grad, without the gradient."""
        self._check_copyable()
        return _rebuild, (type(self), self.numpy(), self.requires_grad, str(self.device))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A copy in new memory of the same device, without the gradient."""
        self._check_copyable()
        array = self._array.empty_like()
        _core.copy(self._array, array)
        return _made(type(self), array, self.requires_grad)

    def _check_copyable(self) -> None:
        if not self.is_leaf:
            raise RuntimeError("only leaves can be copied or pickled; use detach() first")

    # -- differentiation ------------------------------------------------------------------------

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user and not by a recorded operation."""
        return self._node is None

    def backward(self, gradient: Tensor | None = None) -> None:
        """Adds d self / d leaf, times `gradient` (1 for a scalar), to `.grad` of every leaf.

        Raises: RuntimeError when nothing under the tensor requires grad or the graph was already
        consumed; ValueError for a missing or ill-shaped gradient.
        """
        autograd.backward(self, gradient)

    def _set_grad(self, gradient: _core.Array) -> None:
        """For the tape, which does not know this class."""
        self.grad = Tensor(gradient)

    def detach(self) -> Tensor:
        """The same memory, cut off from the tape."""
        return Tensor(self._array)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets `requires_grad` of a leaf and returns it."""
        if requires_grad and not self.is_floating_point:
            raise TypeError(f"only floating-point tensors have gradients, got {self.dtype}")
        if not self.is_leaf:
            raise RuntimeError("requires_grad_() is for leaves; use detach() to cut a result off the tape")
        self.requires_grad = requires_grad
        return self

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Callable[[], None]:
        """Calls `hook(leaf)` in every backward once the leaf's gradient is complete; returns the remover."""
        if not self.is_leaf:
            raise RuntimeError("register_hook() is for leaves: other gradients are not kept")
        self._hooks = [*(self._hooks or []), hook]

        def remove() -> None:
            self._hooks = [h for h in self._hooks or [] if h is not hook]

        return remove


def _rebuild(kind: type[Tensor], array: np.ndarray, requires_grad: bool, device: str = CPU) -> Tensor:
    own = from_numpy(array)._array
    return _made(kind, own if device == CPU else own.moved(device, False), requires_grad)


def _made(kind: type[Tensor], array: _core.Array, requires_grad: bool) -> Tensor:
    """A tensor of a subclass whose constructor takes something else."""
    result = kind.__new__(kind)
    Tensor.__init__(result, array, requires_grad)
    return result


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with a NumPy array; writes show on both sides.

    A read-only array, such as a file mapped into memory, makes a tensor that cannot be written.

    Raises: TypeError for a dtype without counterpart; ValueError for negative strides or foreign
    byte order (copy those first).
    """
    name = dtype_of(array)
    if not array.dtype.isnative:
        raise ValueError("from_numpy: the array is of foreign byte order; use pymodel.tensor, which copies")
    if any(stride < 0 for stride in array.strides):
        raise ValueError("from_numpy: the array has negative strides; pass array.copy()")
    return Tensor(_shared(array, name))


def _shared(array: np.ndarray, name: str) -> _core.Array:
    """The memory of a NumPy array of native byte order without negative strides; `name` is its dtype."""
    return _core.from_numpy(array.view(np.uint16) if name in TRAVELS_AS_UINT16 else array, name)


def from_dlpack(producer: Any) -> Tensor:
    """A tensor that shares memory with any DLPack producer: torch, JAX, CuPy, NumPy, or a capsule.

    Memory of a GPU stays there: the producer is asked to order its work before ours of the current stream.
    What the producer marks as read-only makes a tensor that cannot be written.

    Raises: DeviceError when the memory lies on a device that this build does not have; TypeError for
    a dtype without counterpart; ValueError for a capsule that was consumed before.

    Source: https://dmlc.github.io/dlpack/latest/python_spec.html
    """
    if isinstance(producer, np.ndarray):
        return from_numpy(producer)  # NumPy's own DLPack knows no bfloat16
    if not hasattr(producer, "__dlpack__"):
        return Tensor(_core.from_dlpack(producer))
    options: dict[str, Any] = {}
    kind, index = producer.__dlpack_device__() if hasattr(producer, "__dlpack_device__") else DLPACK_CPU
    if kind == DLPACK_CUDA and not _core.why_unavailable("cuda"):
        options["stream"] = _core.current_stream(f"cuda:{index}") or DEFAULT_STREAM
    try:
        capsule = producer.__dlpack__(max_version=(1, 0), **options)
    except TypeError:  # producers from before DLPack 1.0 do not know the argument
        capsule = producer.__dlpack__(**options)
    return Tensor(_core.from_dlpack(capsule))


def tensor(
    data: Any, dtype: str | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor with a copy of `data`: a NumPy array, DLPack producer, nested lists or a number.

    Without `dtype`, arrays keep theirs (float64 becomes float32) and Python floats become float32,
    integers int64. Without `device`, tensors and arrays of other libraries on a GPU stay where they are,
    and everything else goes to the default device. Use `from_numpy` or `from_dlpack` to share memory instead.

    Raises: TypeError for a dtype without counterpart, DeviceError for an unknown device, ValueError
    for ragged lists.
    """
    if isinstance(data, Tensor):
        result = _copied(data, dtype, device)
    elif isinstance(data, np.ndarray) or not hasattr(data, "__dlpack__") or np.isscalar(data):
        result = _from_host(np.asarray(data), dtype, device)
    else:
        shared = from_dlpack(data)
        on_host = shared.device is CPU
        result = _from_host(shared.numpy(), dtype, device) if on_host else _copied(shared, dtype, device)
    return result.requires_grad_() if requires_grad else result


def _from_host(array: np.ndarray, dtype: str | None, device: str | None) -> Tensor:
    target = get_default_device() if device is None else device if device is CPU else Device(device)
    if dtype is None:
        dtype = "float32" if array.dtype == np.float64 else dtype_of(array)
    if target is CPU:
        own = np.array(array, dtype=numpy_dtype(dtype), order="C", copy=True)
        return Tensor(_shared(own, dtype))
    dense = np.asarray(array, dtype=numpy_dtype(dtype), order="C")
    return Tensor(from_numpy(dense)._array.moved(target, False))


def _copied(source: Tensor, dtype: str | None, device: str | None) -> Tensor:
    result = empty(source.shape, dtype or source.dtype, device or source.device)
    _core.copy(source._array, result._array)
    return result


def empty(shape: Sequence[int], dtype: str = "float32", device: str | None = None) -> Tensor:
    """A tensor whose elements are not set."""
    return Tensor(_core.empty(list(shape), dtype, device or get_default_device()))


def zeros(
    shape: Sequence[int], dtype: str = "float32", device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros."""
    return full(shape, 0.0, dtype, device, requires_grad)


def ones(
    shape: Sequence[int], dtype: str = "float32", device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ones."""
    return full(shape, 1.0, dtype, device, requires_grad)


def full(
    shape: Sequence[int],
    value: float,
    dtype: str = "float32",
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor with every element set to `value`."""
    result = empty(shape, dtype, device)
    _core.fill(result._array, value)
    return result.requires_grad_() if requires_grad else result


def arange(stop: int, dtype: str = "int64", device: str | None = None) -> Tensor:
    """0, 1, ..., stop - 1."""
    return tensor(np.arange(stop), dtype=dtype, device=device)
