"""The base of all layers and models: it finds its parameters and hands them out by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pymodel import _core
from pymodel.autograd import no_grad
from pymodel.device import device as Device
from pymodel.dtypes import numpy_dtype
from pymodel.errors import CheckpointError
from pymodel.nn.parameter import Parameter
from pymodel.nn.summary import summary_text
from pymodel.tensor import Tensor, tensor

Self = TypeVar("Self", bound="Module")

_FLOATING = ("float32", "float16", "bfloat16")
_LISTED = 8  # names that an error shows before it counts the rest


class LoadResult(NamedTuple):
    """What `load_state_dict` did not find a counterpart for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


# What stands here is replaced whenever a parameter or a module becomes an attribute, or no longer is one.
# It is an object, not a number, so that copied and unpickled modules remember nothing.
_structure = [object()]


def _forget_parameters(*attributes: Any) -> None:
    """Notes that attributes change, in case they belong to a module's structure."""
    if any(isinstance(value, (Parameter, Module)) for value in attributes):
        _structure[0] = object()


class Module:
    """A part of a model: attributes that are parameters, buffers and other modules, and `forward`.

    A subclass sets attributes in its constructor; whatever is a `Parameter` or a `Module` belongs to
    it from then on, by the attribute's name. Names of parts of parts are joined by dots, as in
    Hugging Face's files: "h.0.attn.c_attn.weight". One parameter may have several names (tied
    weights): `parameters` gives it once, `state_dict` under each name.

    Attributes:
        training: whether layers like dropout act as in training; see `train` and `eval`.
    """

    training: bool = True
    # Attributes that are buffers, and whether state_dict holds them; replaced, never changed.
    _buffers: Mapping[str, bool] = {}

    def forward(self, *args: Any, **options: Any) -> Any:
        """What the module computes; the subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.forward(*args, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        if isinstance(before, Parameter) and isinstance(value, Tensor) and not isinstance(value, Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter and cannot become a plain tensor; "
                "assign nn.Parameter(...), or write into it with .copy_(...)"
            )
        _forget_parameters(before, value)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _forget_parameters(vars(self).get(name))
        object.__delattr__(self, name)

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Sets an attribute that moves with the module but is not trained.

        Args:
            name: of the attribute.
            value: the tensor, or None for one that comes later.
            persistent: whether `state_dict` holds it.
        """
        self._buffers = {**self._buffers, name: persistent}
        setattr(self, name, value)

    # -- parts ----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Modules that are attributes of this one."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def children(self) -> Iterator[Module]:
        """`named_children` without the names."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all parts of it, each once, parents first."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        """`named_modules` without the names."""
        return (module for _, module in self.named_modules())

    def apply(self: Self, function: Callable[[Module], Any]) -> Self:
        """Calls `function` with every part, innermost first, and returns this module."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """All modules under all their names."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_joined(prefix, name))

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))

    def _own_buffers(self, persistent_only: bool = False) -> Iterator[tuple[str, Tensor]]:
        for name, persistent in self._buffers.items():
            value = getattr(self, name)
            if value is not None and (persistent or not persistent_only):
                yield name, value

    # -- parameters -----------------------------------------------------------------------------

    def named_parameters(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their dotted names; a shared one once, under its first name.

        Args:
            prefix: put before every name.
            remove_duplicate: False gives shared parameters under all their names.
        """
        seen: set[int] = set()
        for module_name, module in self._walk(prefix):
            for name, value in module._own_parameters():
                if not remove_duplicate or id(value) not in seen:
                    seen.add(id(value))
                    yield _joined(module_name, name), value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        known = vars(self).get("_parameters_found")  # the walk is remembered: clipping asks every step
        if known is None or known[0] is not _structure[0]:
            found: dict[int, Parameter] = {}
            self._collect_parameters(found)
            known = (_structure[0], tuple(found.values()))
            object.__setattr__(self, "_parameters_found", known)
        return iter(known[1])

    def _collect_parameters(self, found: dict[int, Parameter]) -> None:
        """`named_parameters` without the names, which cost more than the walk."""
        children = []
        for value in vars(self).values():
            if isinstance(value, Parameter):
                found.setdefault(id(value), value)
            elif isinstance(value, Module):
                children.append(value)
        for child in children:
            child._collect_parameters(found)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Buffers with their dotted names."""
        for module_name, module in self.named_modules(prefix):
            for name, value in module._own_buffers():
                yield _joined(module_name, name), value

    def buffers(self) -> Iterator[Tensor]:
        """`named_buffers` without the names."""
        return (value for _, value in self.named_buffers())

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Numbers in all parameters; a shared parameter counts once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Collects gradients for all parameters, or for none (a frozen module)."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; without `set_to_none`, keeps their memory and fills it with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                _core.fill(parameter.grad._array, 0.0)

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, sharing memory with the module.

        Shared parameters come under each of their names, as transformers has it.
        """
        state = {}
        for module_name, module in self._walk(prefix):
            for name, value in (*module._own_parameters(), *module._own_buffers(persistent_only=True)):
                state[_joined(module_name, name)] = value.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copies values into parameters and buffers of the same names, converting dtypes.

        Args:
            state_dict: tensors of any library or arrays by dotted name. Of a shared parameter's
                names one is enough.
            strict: missing and unexpected names are errors.

        Returns: (missing_keys, unexpected_keys); both empty when strict.

        Raises: CheckpointError, a ValueError, listing all names that are missing, unexpected or of
        another shape; nothing is changed then.
        """
        own = self.state_dict()
        given = {value.data_ptr() for name, value in own.items() if name in state_dict}
        missing = [
            name for name, value in own.items() if name not in state_dict and value.data_ptr() not in given
        ]
        unexpected = [name for name in state_dict if name not in own]
        misshapen = [
            f"{name} {tuple(state_dict[name].shape)}, expected {value.shape}"
            for name, value in own.items()
            if name in state_dict and tuple(state_dict[name].shape) != value.shape
        ]
        problems = {
            "missing": missing if strict else [],
            "unexpected": unexpected if strict else [],
            "of another shape": misshapen,
        }
        if any(problems.values()):
            listing = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
            raise CheckpointError(f"{type(self).__name__}.load_state_dict: {listing}")
        for name, target in own.items():
            if name in state_dict:
                value = state_dict[name]
                source = value if isinstance(value, Tensor) else tensor(value, device=target.device)
                _core.copy(source._array, target._array)
        _core.weights_changed()
        return LoadResult(missing, unexpected)

    # -- mode, dtype and device -----------------------------------------------------------------

    def train(self: Self, mode: bool = True) -> Self:
        """Sets training mode, or with False evaluation mode, for all parts."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Sets evaluation mode: dropout off."""
        return self.train(False)

    def to(
        self: Self, target: str | None = None, *, dtype: str | None = None, device: str | None = None
    ) -> Self:
        """Converts all floating-point tensors, or moves all tensors, and returns the module.

        Parameters stay the same objects, so optimizers and tied weights keep working.

        Args:
            target: a dtype or a device, such as "bfloat16" or "cpu".
            dtype: of parameters, their gradients and floating-point buffers.
            device: where everything lives.

        Raises: TypeError for a dtype that is unknown or not floating-point, DeviceError for a device
        that this build or this machine does not have.
        """
        dtype, device = _destination(target, dtype, device)
        with no_grad():
            for value in {id(t): t for t in (*self.parameters(), *self.buffers())}.values():
                _convert(value, dtype, device)
        return self

    # -- text -----------------------------------------------------------------------------------

    def summary(self, depth: int | None = None) -> None:
        """Prints all layers with the shapes of their parameters and how many numbers they hold.

        Args:
            depth: levels of parts to show; None for all.
        """
        print(summary_text(self, depth))

    def extra_repr(self) -> str:
        """What the module's line in a printed model says in brackets."""
        return ""

    def __repr__(self) -> str:
        lines: list[str] = []
        children = [(name, repr(child)) for name, child in self.named_children()]
        position = 0
        while position < len(children):
            name, text = children[position]
            count = 1
            while position + count < len(children) and children[position + count][1] == text:
                count += 1
            if count > 1:  # twelve equal blocks are one line's worth of news
                name, text = f"{name}-{children[position + count - 1][0]}", f"{count} x {text}"
            lines += f"({name}): {text}".splitlines()
            position += count
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + "".join(f"\n  {line}" for line in lines) + ("\n)" if lines else ")")


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _destination(target: str | None, dtype: str | None, device: str | None) -> tuple[str | None, str | None]:
    """The dtype and the device that the arguments of `Module.to` name, both known to exist."""
    if target is not None:
        try:
            numpy_dtype(target)
        except TypeError:
            device = target
        else:
            dtype = target
    if dtype is not None and dtype not in _FLOATING:
        raise TypeError(f"Module.to: dtype must be float32, float16 or bfloat16, got {dtype}")
    return dtype, None if device is None else Device(device)


def _convert(value: Tensor, dtype: str | None, device: str | None) -> None:
    """Converts and moves a tensor in place, with its gradient."""
    value._array = value.detach().to(dtype=dtype if value.is_floating_point else None, device=device)._array
    if value.grad is not None:
        _convert(value.grad, dtype, device)
