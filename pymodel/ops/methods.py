"""Gives `Tensor` its arithmetic: operators, functions as methods, and changes in place.

The tensor itself knows no operations; importing `pymodel.ops` attaches them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pymodel import _core
from pymodel.autograd import is_grad_enabled
from pymodel.dtypes import numpy_dtype
from pymodel.ops import activation, elementwise, reduce, transfer
from pymodel.ops.elementwise import Operand, raw
from pymodel.ops.matmul import matmul
from pymodel.tensor import Tensor

_DTYPES = ("float32", "float16", "bfloat16", "int32", "int64", "uint8", "bool")

# -- operators --------------------------------------------------------------------------------------


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    return lambda self, other: function(other, self)


def _comparison(name: str) -> Callable[[Tensor, Any], Any]:
    def compare(self: Tensor, other: Any) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented  # x == None is False, x < None a TypeError, as for other objects
        return Tensor(_core.binary(name, self._array, raw(other, self)))

    return compare


def _logical(symbol: str, name: str) -> Callable[[Tensor, Any], Tensor]:
    def combine(self: Tensor, other: Any) -> Tensor:
        right = raw(other, self)
        is_bool = isinstance(right, (bool, np.bool_)) or getattr(right, "dtype", None) == "bool"
        if self.dtype != "bool" or not is_bool:
            raise TypeError(f"{symbol}: both sides must be bool, got {self.dtype} and {_kind(other)}")
        return Tensor(
            _core.binary(name, self._array, right if isinstance(right, _core.Array) else bool(right))
        )

    return combine


def _kind(operand: Any) -> str:
    return operand.dtype if isinstance(operand, Tensor) else type(operand).__name__


def _invert(self: Tensor) -> Tensor:
    if self.dtype != "bool":
        raise TypeError(f"~: the tensor must be bool, got {self.dtype}; compare it first, as in x == 0")
    return Tensor(_core.binary("eq", self._array, False))


# -- changes in place -------------------------------------------------------------------------------


def _check_in_place(name: str, target: Tensor, *sources: Any) -> None:
    """In-place changes are not recorded, so nothing may ask for a gradient through them; that there is one,
    whoever keeps the weights packed has to know."""
    involved = (target, *(s for s in sources if isinstance(s, Tensor)))
    if is_grad_enabled() and any(t.requires_grad for t in involved):
        raise RuntimeError(
            f"{name}: a change in place is not recorded for backward; "
            "do it inside pymodel.no_grad(), or write it as a new tensor"
        )
    _core.memory_written(target._array)


def _in_place(name: str) -> Callable[[Tensor, Any], Tensor]:
    def apply(self: Tensor, other: Operand) -> Tensor:
        _check_in_place(f"{name}_", self, other)
        _core.binary(name, self._array, raw(other, self), self._array)
        return self

    return apply


def _augmented(name: str, function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """`x += y`: in place where nothing is recorded."""

    def apply(self: Tensor, other: Operand) -> Tensor:
        recorded = self.requires_grad or (isinstance(other, Tensor) and other.requires_grad)
        if not recorded or not is_grad_enabled():
            _core.binary(name, self._array, raw(other, self), self._array)
            return self
        if self.requires_grad and self.is_leaf:
            raise RuntimeError(
                f"in-place {name}: the tensor is a leaf that requires grad; "
                "change it inside pymodel.no_grad(), or write x = x + y"
            )
        # On the tape the name is bound to a new tensor: what backward saved stays as it was.
        return function(self, other)

    return apply


def _copy_(self: Tensor, source: Operand) -> Tensor:
    """Overwrites the elements with those of `source`, converted and broadcast; returns the tensor."""
    _check_in_place("copy_", self, source)
    array = raw(source, self)
    if isinstance(array, _core.Array):
        _core.copy(array, self._array)
    else:
        _core.fill(self._array, array)
    return self


def _fill_(self: Tensor, value: float) -> Tensor:
    """Sets every element; returns the tensor."""
    _check_in_place("fill_", self)
    _core.fill(self._array, value)
    return self


def _zero_(self: Tensor) -> Tensor:
    """Sets every element to zero; returns the tensor."""
    _check_in_place("zero_", self)
    _core.fill(self._array, 0)
    return self


def _masked_fill_(self: Tensor, mask: Tensor, value: float) -> Tensor:
    """Sets the elements where the mask holds; returns the tensor."""
    _check_in_place("masked_fill_", self)
    _core.copy(elementwise.masked_fill(self.detach(), mask, value)._array, self._array)
    return self


# -- conversions ------------------------------------------------------------------------------------


def _to(
    self: Tensor,
    *targets: Any,
    dtype: str | None = None,
    device: str | None = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> Tensor:
    """The tensor in another dtype, on another device, or both; itself where nothing changes.

    Args:
        targets: a dtype such as "bfloat16", a device such as "cuda", both in either order, or a tensor
            whose dtype and device are taken. Gradients pass through and come back as they were.
        dtype, device: the same by name.
        non_blocking: does not wait for a copy between pinned memory of the host and a device: do not
            change the source before `synchronize`. A tensor brought to the CPU this way is pinned, and
            complete only then.
        copy: makes new memory even where nothing changes.

    Raises: TypeError for an unknown dtype, DeviceError for a device that is not there.
    """
    for target in targets:
        if isinstance(target, Tensor):
            dtype, device = target.dtype, target.device
        elif target in _DTYPES:
            dtype = target
        elif isinstance(target, str):
            device = target
        else:
            raise TypeError(f"to: expected the name of a dtype or device, or a tensor, got {target!r}")
    if dtype is not None:
        numpy_dtype(dtype)
    result = transfer.to(self, self.dtype if dtype is None else dtype, device, non_blocking)
    return elementwise.clone(self) if copy and result is self else result


def _converter(dtype: str) -> Callable[[Tensor], Tensor]:
    def convert(self: Tensor) -> Tensor:
        return elementwise.cast(self, dtype)

    convert.__doc__ = f"The tensor in {dtype}."
    return convert


# -- attachment -------------------------------------------------------------------------------------

_METHODS: dict[str, Any] = {
    "__matmul__": matmul,
    "__neg__": elementwise.neg,
    "__abs__": elementwise.abs,
    "__and__": _logical("&", "minimum"),
    "__rand__": _logical("&", "minimum"),
    "__or__": _logical("|", "maximum"),
    "__ror__": _logical("|", "maximum"),
    "__xor__": _logical("^", "ne"),
    "__rxor__": _logical("^", "ne"),
    "__invert__": _invert,
    "where": lambda self, condition, other: elementwise.where(condition, self, other),
    "copy_": _copy_,
    "fill_": _fill_,
    "zero_": _zero_,
    "masked_fill_": _masked_fill_,
    "to": _to,
    "cpu": transfer.cpu,
    "cuda": transfer.cuda,
    "pin_memory": transfer.pin_memory,
    "float": _converter("float32"),
    "half": _converter("float16"),
    "bfloat16": _converter("bfloat16"),
    "long": _converter("int64"),
    "int": _converter("int32"),
    "bool": _converter("bool"),
}
for _operator, _name in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow"}.items():
    _function = getattr(elementwise, _name)
    _METHODS[f"__{_operator}__"] = _function
    _METHODS[f"__r{_operator}__"] = _reflected(_function)
    _METHODS[f"__i{_operator}__"] = _augmented(_name, _function)
    _METHODS[f"{_name}_"] = _in_place(_name)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _METHODS[f"__{_name}__"] = _comparison(_name)
for _module, _names in (
    (elementwise, "add sub mul div pow maximum minimum neg abs square exp log sqrt rsqrt reciprocal sin"),
    (elementwise, "cos erf clamp masked_fill clone contiguous"),
    (reduce, "sum mean var max min argmax argmin any all"),
    (activation, "relu gelu silu tanh sigmoid"),
):
    for _name in _names.split():
        _METHODS[_name] = getattr(_module, _name)
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
