"""The tensors that training changes."""

from __future__ import annotations

from typing import Any

from pymodel.tensor import Tensor, tensor


class Parameter(Tensor):
    """A tensor that a `Module` lists among its parameters when it is one of its attributes.

    Args:
        data: a tensor, whose memory it shares, or what `pymodel.tensor` takes.
        requires_grad: whether gradients are collected for it.

    Raises: TypeError for other than floating-point data.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else tensor(data)
        super().__init__(source._array)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter({super().__repr__()})"
