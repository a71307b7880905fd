"""A strided array in the memory of a device: what it is, and how other libraries and Python read it.

`Tensor` adds the tape. The protocols are NumPy's, DLPack and the CUDA array interface.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pymodel import _core
from pymodel.device import CPU, known_device
from pymodel.device import device as Device
from pymodel.dtypes import TRAVELS_AS_UINT16, numpy_dtype

DLPACK_CPU, DLPACK_CUDA = (1, 0), 2
DEFAULT_STREAM = 1  # the handle under which protocols between libraries know CUDA's default stream


class ArrayBase:
    """What a tensor is as an array; all of it follows from `_array`."""

    __slots__ = ()
    _array: _core.Array

    # NumPy leaves `array + tensor` to the tensor instead of looping over elements.
    __array_priority__ = 1000

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

    # -- to other libraries ---------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A NumPy array (bfloat16 through ml_dtypes): of a tensor on the CPU one that shares its memory,
        of one on another device a copy, for which it waits for the device.
        """
        own = self._array
        array = (own if self.device is CPU else own.moved(CPU, False)).numpy()
        return array.view(numpy_dtype(self.dtype)) if self.dtype in TRAVELS_AS_UINT16 else array

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
            if tuple(dl_device) != DLPACK_CPU or copy is False:
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
        _core.Stream(self.device, stream or DEFAULT_STREAM).wait_for(ours)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The memory of a tensor on a GPU for Numba, CuPy and others.

        Source: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, version 3
        """
        if self.device.type != "cuda":
            raise AttributeError(f"__cuda_array_interface__: the tensor lies on {self.device}, not on a GPU")
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no type for bfloat16; use __dlpack__")
        dtype = numpy_dtype(self.dtype)
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": dtype.str,
            "data": (self.data_ptr() if self.numel() else 0, self._array.read_only),
            "strides": None if self.is_contiguous() else tuple(s * dtype.itemsize for s in self.strides),
            "stream": _core.current_stream(self.device) or DEFAULT_STREAM,
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
        return (array.astype(np.float32) if self.dtype in TRAVELS_AS_UINT16 else array).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())
