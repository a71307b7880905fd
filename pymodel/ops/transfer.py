"""Tensors brought to another device."""

from __future__ import annotations

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.device import device as Device
from pymodel.dtypes import numpy_dtype
from pymodel.ops.elementwise import cast
from pymodel.tensor import Tensor


def to(x: Tensor, dtype: str, device: str | None = None, non_blocking: bool = False) -> Tensor:
    """x in a dtype and on a device, None for its own; x itself where nothing changes.

    The conversion happens on the side where it leaves fewer bytes to move.
    """
    if device is None:
        return cast(x, dtype)
    target = Device(device)
    if target is x.device:
        return cast(x, dtype)
    if numpy_dtype(dtype).itemsize < numpy_dtype(x.dtype).itemsize:
        return _moved(cast(x, dtype), target, non_blocking)
    return cast(_moved(x, target, non_blocking), dtype)


def cpu(x: Tensor) -> Tensor:
    """x on the CPU."""
    return to(x, x.dtype, "cpu")


def cuda(x: Tensor, device: str = "cuda", non_blocking: bool = False) -> Tensor:
    """x on a GPU, by default the first; see `Tensor.to`."""
    return to(x, x.dtype, device, non_blocking)


def pin_memory(x: Tensor) -> Tensor:
    """x in pinned memory of the host, from which copies to a GPU need not be waited for.

    Raises: DeviceError for a tensor that is not on the CPU, or where there is no GPU to pin it for.
    """
    return x if x.is_pinned else Tensor(x._array.pin(), x.requires_grad)


def _moved(x: Tensor, target: Device, non_blocking: bool) -> Tensor:
    source = x.device
    result = Tensor(x._array.moved(target, non_blocking))
    if wants_grad(x):

        def backward(d: _core.Array) -> _core.Array:
            return d.moved(source, False)

        record("to", result, (x,), backward)
    return result
