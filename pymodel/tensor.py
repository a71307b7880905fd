"""The tensor: a strided array on a device, with a place on the tape.

Arithmetic and shape methods are attached by `pymodel.ops`, which this module does not know; their
types stand in `tensor_methods.pyi`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from pymodel import _core, autograd
from pymodel.device import CPU, get_default_device, known_device
from pymodel.device import device as Device

_NUMPY_DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}
_TRAVELS_AS_UINT16 = ("float16", "bfloat16")
_DLPACK_CPU, _DLPACK_CUDA = (1, 0), 2
_DEFAULT_STREAM = 1  # the handle under which protocols between libraries know CUDA's default stream


if TYPE_CHECKING:
    from pymodel.tensor_methods import TensorMethods  # what pymodel.ops attaches
else:
    TensorMethods = object


class Tensor(TensorMethods):
    """An n-dimensional array on a device.

    dtypes: float32, float16, bfloat16, int32, int64, uint8 and bool, named by strings. Views
    (slices, transposes) share memory with what they were taken from.

    Made by `pymodel.tensor` (copies), `pymodel.from_numpy` and `pymodel.from_dlpack` (share memory).
    """

    __slots__ = ("__weakref__", "_array", "_hooks", "_node", "_output_index", "grad", "requires_grad")

    # NumPy leaves `array + tensor` to the tensor instead of looping over elements.
    __array_priority__ = 1000

    def __init__(self, array: _core.Array, requires_grad: bool = False) -> None:
        self._array = array
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self._node: autograd.Node | None = None
        self._output_index = 0
        self._hooks: list[Callable[[Tensor], Any]] | None = None

    # -- what it is -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dimension."""
        return self._array.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps between neighbours along each dimension, in elements."""
        return self._array.strides

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._array.ndim

    @property
    def dtype(self) -> str:
        """Name of the element type, such as "float32"."""
        return self._array.dtype

    @property
    def device(self) -> Device:
        """Where the tensor lives; equal to a plain string such as "cpu"."""
        return known_device(self._array.device)

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user and not by a recorded operation."""
        return self._node is None

    def numel(self) -> int:
        """Number of elements."""
        return self._array.numel

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the extent of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def nbytes(self) -> int:
        """Bytes of its elements; for a view, those it shows."""
        return self._array.nbytes

    def is_contiguous(self) -> bool:
        """Whether the elements lie densely in row-major order."""
        return self._array.contiguous

    @property
    def is_floating_point(self) -> bool:
        """Whether gradients can flow through it."""
        return self.dtype in ("float32", "float16", "bfloat16")

    @property
    def is_pinned(self) -> bool:
        """Whether it lies in pinned memory of the host, from which copies to a GPU can be asynchronous."""
        return self._array.pinned

    def data_ptr(self) -> int:
        """Address of the first element, in the memory of its device."""
        return self._array.data_ptr

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a tensor without dimensions")
        return self.shape[0]

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

    # -- to other libraries ---------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A NumPy array (bfloat16 through ml_dtypes): of a tensor on the CPU one that shares its memory,
        of one on another device a copy, for which it waits for the device.
        """
        own = self._array
        array = (own if self.device is CPU else own.moved(CPU, False)).numpy()
        return array.view(_NUMPY_DTYPES[self.dtype]) if self.dtype in _TRAVELS_AS_UINT16 else array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False and self.device is not CPU:
            raise ValueError(f"a tensor on {self.device} cannot become a NumPy array without a copy")
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(
                    f"a {self.dtype} tensor cannot become a {np.dtype(dtype)} array without a copy"
                )
            return array.astype(dtype)
        return array.copy() if copy and self.device is CPU else array

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule of the tensor's memory; what others do to it leaves no trace on the tape.

        Args:
            stream: of the consumer, on a GPU: work that it puts there finds the tensor complete. None
                is the default stream, -1 asks for no order.
            max_version: the highest version of DLPack that the consumer reads.
            dl_device: where it wants the memory: here, or on the CPU (1, 0), which takes a copy.
            copy: True for a copy, False for none, None for one where it is needed.

        Source: https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html
        """
        array = self._array
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            if tuple(dl_device) != _DLPACK_CPU or copy is False:
                raise BufferError(f"__dlpack__: the tensor lies on {self.device}; move it with .to() first")
            array, copy = array.moved(CPU, False), True
        else:
            if copy:
                array = array.empty_like()
                _core.copy(self._array, array)
            self._hand_over(stream)
        versioned = max_version is not None and max_version[0] >= 1
        return _core.to_dlpack(array, versioned=versioned, copied=bool(copy))

    def _hand_over(self, stream: int | None) -> None:
        """Makes a consumer's stream wait for the work that this thread has put into ours."""
        if self.device is CPU and stream not in (None, -1):
            raise ValueError(f"__dlpack__: a tensor on the CPU has no stream, expected None, got {stream}")
        if self.device is CPU or stream == -1:
            return
        if stream == 0:
            raise ValueError("__dlpack__: stream 0 is ambiguous; expected 1 for the default stream")
        ours = _core.Stream(self.device, _core.current_stream(self.device))
        _core.Stream(self.device, stream or _DEFAULT_STREAM).wait_for(ours)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The memory of a tensor on a GPU for Numba, CuPy and others.

        Source: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, version 3
        """
        if self.device.type != "cuda":
            raise AttributeError(f"__cuda_array_interface__: the tensor lies on {self.device}, not on a GPU")
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no type for bfloat16; use __dlpack__")
        dtype = _NUMPY_DTYPES[self.dtype]
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": dtype.str,
            "data": (self.data_ptr() if self.numel() else 0, self._array.read_only),
            "strides": None if self.is_contiguous() else tuple(s * dtype.itemsize for s in self.strides),
            "stream": _core.current_stream(self.device) or _DEFAULT_STREAM,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return _core.dlpack_device(self._array)

    def item(self) -> float | int | bool:
        """The value of a tensor of one element as a Python number."""
        if self.numel() != 1:
            raise ValueError(f"item() needs a tensor of one element, got shape {self.shape}")
        array = self.numpy().reshape(())
        value: float | int | bool = (array.astype(np.float64) if self.is_floating_point else array).item()
        return value

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        array = self.numpy()
        return (array.astype(np.float32) if self.dtype in _TRAVELS_AS_UINT16 else array).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    # -- differentiation ------------------------------------------------------------------------

    def backward(self, gradient: Tensor | None = None) -> None:
        """Adds d self / d leaf, times `gradient` (1 for a scalar), to `.grad` of every leaf.

        Raises: RuntimeError when nothing under the tensor requires grad or the graph was already
        consumed; ValueError for a missing or ill-shaped gradient.
        """
        autograd.backward(self, gradient)

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


def dtype_of(array: np.ndarray) -> str:
    """Our name of a NumPy array's dtype; TypeError when we have none."""
    name = array.dtype.name
    if name not in _NUMPY_DTYPES:
        known = ", ".join(_NUMPY_DTYPES)
        raise TypeError(
            f"arrays of dtype {name} have no tensor counterpart; expected one of {known}; "
            "convert it, for example with .astype(np.float32)"
        )
    return name


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of one of our names; TypeError for an unknown one."""
    if name not in _NUMPY_DTYPES:
        raise TypeError(f"dtype {name!r} is unknown; expected one of {', '.join(_NUMPY_DTYPES)}")
    return _NUMPY_DTYPES[name]


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
    raw = array.view(np.uint16) if name in _TRAVELS_AS_UINT16 else array
    return Tensor(_core.from_numpy(raw, name))


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
    kind, index = producer.__dlpack_device__() if hasattr(producer, "__dlpack_device__") else _DLPACK_CPU
    if kind == _DLPACK_CUDA and not _core.why_unavailable("cuda"):
        options["stream"] = _core.current_stream(f"cuda:{index}") or _DEFAULT_STREAM
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
    target = Device(device) if device is not None else get_default_device()
    if dtype is None:
        dtype = "float32" if array.dtype == np.float64 else dtype_of(array)
    if target is CPU:
        return from_numpy(np.array(array, dtype=numpy_dtype(dtype), order="C", copy=True))
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
