"""Modules that hold other modules by number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

from pymodel.nn.module import Module


class ModuleList(Module):
    """A list of modules, which a plain list would hide from `parameters` and `state_dict`.

    Their names are their positions: "0", "1" and so on.

    Args:
        modules: what it holds at first.

    Raises: TypeError for what is not a module.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> None:
        """Adds a module at the end."""
        self._set(len(self), module)

    def extend(self, modules: Iterable[Module]) -> None:
        """Adds several modules at the end."""
        for module in modules:
            self.append(module)

    def _set(self, index: int, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got {type(module).__name__} at {index}")
        setattr(self, str(index), module)

    def _position(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"index {index} is out of range for a {type(self).__name__} of {len(self)} modules"
            )
        return index % len(self)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Any]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, str(self._position(index)))

    def __setitem__(self, index: int, module: Module) -> None:
        self._set(self._position(index), module)


class Sequential(ModuleList):
    """Modules applied one after the other, each to the result of the one before.

    Args:
        modules: in the order of their use.
    """

    def __init__(self, *modules: Module | Iterable[Module]) -> None:
        given = modules[0] if len(modules) == 1 and not isinstance(modules[0], Module) else modules
        super().__init__(given)  # type: ignore[arg-type]

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self:
            x = module(x)
        return x
