"""What all optimizers share: parameter groups, state, and its way to disk and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pymodel import _core
from pymodel.tensor import Tensor, empty, tensor

# What a group may hold beside the options of its optimizer.
_NOTES = ("name", "initial_lr")


class Update(NamedTuple):
    """A parameter that has a gradient, and what its update needs."""

    parameter: Tensor
    gradient: Tensor
    group: dict[str, Any]
    state: dict[str, Any]

    def array(self, name: str) -> _core.Array | None:
        """The memory of one of the state's tensors, as the kernels take it."""
        value: Tensor | None = self.state.get(name)
        return None if value is None else value._array


class GradScale(NamedTuple):
    """The factor on all gradients of a step: a number, times one that lies on the device, if any."""

    factor: float
    on_device: _core.Array | None


def set_lr(group: dict[str, Any], rate: float) -> None:
    """Sets the learning rate of a group; a tensor keeps its place, where captured steps read it."""
    if isinstance(group["lr"], Tensor):
        _core.fill(group["lr"]._array, float(rate))
    else:
        group["lr"] = rate


class Optimizer:
    """Base of the optimizers: moves parameters along their gradients, one call per step.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with "params" (either of the former)
            and options that differ from the defaults. A tensor may occur once.
        defaults: options of groups that do not set them.

    Attributes:
        param_groups: one dict per group, with "params" and every option; options may be changed
            between steps (schedules change "lr"). "lr" may be a float32 tensor without dimensions on the
            parameters' device: a step that was captured in a graph reads it anew at each replay.
        state: per parameter, numbered through all groups, what the optimizer remembers. Moments are
            float32, and a float16 or bfloat16 parameter has a float32 "master" of which it is the
            rounded copy. Writing to such a parameter between steps is fine: what was written counts.

    Raises: ValueError for no parameters, one given twice, unknown options or options out of range;
    TypeError for what is not a floating-point tensor.
    """

    # The float32 tensors that a parameter's state may hold, beside "step" and "master".
    _moments: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[int, dict[str, Any]] = {}
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(
                f"{self._name}: params must be a list of tensors, named pairs or groups, "
                f"got a single {type(params).__name__}"
            )
        entries = list(params)
        if not entries:
            raise ValueError(f"{self._name}: params is empty; there is nothing to optimize")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # -- parameters -----------------------------------------------------------------------------

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds one more group: a dict with "params" and the options that differ from the defaults."""
        if "params" not in group:
            raise ValueError(f'{self._name}: a parameter group must have "params", got {sorted(group)}')
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        unknown = [key for key in options if key not in self.defaults and key not in _NOTES]
        if unknown:
            raise ValueError(
                f"{self._name}: unknown option {', '.join(map(repr, unknown))} in a parameter group; "
                f"expected {', '.join(map(repr, (*self.defaults, *_NOTES)))}"
            )
        params, names = self._listed(group["params"])
        names = list(group.get("param_names", names))
        result = {"params": params, **self.defaults, **options}
        if names:
            result["param_names"] = names
        self._validate(result)
        self.param_groups.append(result)

    def _listed(self, params: Any) -> tuple[list[Tensor], list[str]]:
        """The tensors of one group and, when pairs were given, their names."""
        entries = [params] if isinstance(params, Tensor) else list(params)
        named = [entry for entry in entries if isinstance(entry, tuple) and len(entry) == 2]
        if named and len(named) != len(entries):
            raise TypeError(f"{self._name}: either all parameters come with a name or none does")
        tensors = [entry[1] for entry in named] if named else entries
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for i, parameter in enumerate(tensors):
            label = f"parameter {named[i][0]!r}" if named else f"parameter {i}"
            if not isinstance(parameter, Tensor) or not parameter.is_floating_point:
                got = parameter.dtype if isinstance(parameter, Tensor) else type(parameter).__name__
                raise TypeError(f"{self._name}: {label} must be a floating-point tensor, got {got}")
            if not parameter.is_leaf:
                raise ValueError(
                    f"{self._name}: {label} is the result of an operation; optimize the leaves it came from"
                )
            if id(parameter) in known:
                raise ValueError(f"{self._name}: {label} is given twice; each may be in one group, once")
            known.add(id(parameter))
        return tensors, [entry[0] for entry in named]

    def _validate(self, group: dict[str, Any]) -> None:
        """Raises ValueError for an option out of its range."""
        lr = group["lr"]
        if isinstance(lr, Tensor) and (lr.shape != () or lr.dtype != "float32"):
            raise ValueError(
                f"{self._name}: a tensor lr must be float32 without dimensions, got {lr.dtype} {lr.shape}"
            )
        for key in ("lr", "weight_decay", "eps"):
            if key == "lr" and isinstance(lr, Tensor):
                continue  # reading it would wait for the device
            if key in group and not (group[key] >= 0 and math.isfinite(group[key])):
                raise ValueError(f"{self._name}: {key} must be at least 0, got {group[key]}")

    def _parameters(self) -> list[tuple[Tensor, dict[str, Any]]]:
        return [(p, group) for group in self.param_groups for p in group["params"]]

    # -- steps ----------------------------------------------------------------------------------

    def step(self, grad_scale: float | Tensor = 1.0) -> None:
        """Updates every parameter that has a gradient.

        Args:
            grad_scale: factor on all gradients, applied on the fly: 1 / (number of accumulated
                batches), or what `clip_coefficient` gives. As a float32 tensor on the parameters' device it
                is not waited for; where it turns out not to be finite, parameters and moments stay as they
                are.

        Raises: ValueError when grad_scale is a number that is not finite, or a gradient does not fit its
            parameter.
        """
        scale = self._scale_of(grad_scale)
        updates: list[Update] = []
        index = -1
        for group in self.param_groups:
            for parameter in group["params"]:
                index += 1
                gradient = parameter.grad
                if gradient is not None:
                    updates.append(Update(parameter, gradient, group, self._state_of(index, parameter)))
        if updates:
            self._update(updates, scale)
            _core.weights_changed()

    def _scale_of(self, grad_scale: float | Tensor) -> GradScale:
        if isinstance(grad_scale, Tensor) and grad_scale.device != "cpu":
            return GradScale(1.0, grad_scale._array)
        factor = float(grad_scale)
        if not math.isfinite(factor):
            raise ValueError(
                f"{self._name}.step: grad_scale must be finite, got {factor}; "
                "a gradient is infinite or NaN, skip this step or lower the learning rate"
            )
        return GradScale(factor, None)

    def _update(self, updates: list[Update], scale: GradScale) -> None:
        """One step of the method, over all tensors at once; every optimizer has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule")

    def _rate(self, group: dict[str, Any]) -> tuple[float, _core.Array | None]:
        """The learning rate as a number, or its place on the device (the number then means nothing)."""
        lr = group["lr"]
        if isinstance(lr, Tensor) and lr.device != "cpu":
            return 0.0, lr._array
        return float(lr), None

    def _state_of(self, index: int, parameter: Tensor) -> dict[str, Any]:
        state = self.state.get(index)
        if state is None:
            state = self.state[index] = {"step": self._counter(0, parameter)}
        if parameter._array.dtype == "float32":
            state.pop("master", None)
        elif "master" not in state:
            state["master"] = empty(parameter.shape, "float32", parameter.device)
            _core.copy(parameter._array, state["master"]._array)
        return state

    def _counter(self, step: int, parameter: Tensor) -> Any:
        """How the steps of a parameter are counted."""
        return step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; without `set_to_none`, keeps their memory and fills it with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    _core.fill(parameter.grad._array, 0.0)

    # -- saving and resuming --------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, shaped as torch shapes it.

        Returns: {"state": {number: {"step": int, name: tensor}}, "param_groups": [{option: value,
        "params": [numbers]}]}. The tensors share memory with the optimizer; a rate and steps that are
        counted on a device are read from there.
        """
        groups, start = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            numbers = list(range(start, start + count))
            groups.append({**group, "lr": float(group["lr"]), "params": numbers})
            start += count
        states = {index: {**state, "step": int(state["step"])} for index, state in self.state.items()}
        return {"state": states, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave; tensors are copied, options taken over.

        Tensors may be NumPy arrays or tensors of other libraries. torch's own states load too.

        Raises: ValueError when groups, parameters or shapes differ; nothing is changed then.
        """
        groups = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in groups]
        own_sizes = [len(group["params"]) for group in self.param_groups]
        if sizes != own_sizes:
            raise ValueError(
                f"{self._name}.load_state_dict: the state is of groups with {sizes} parameters, "
                f"this optimizer has groups with {own_sizes}"
            )
        # The numbers in the state need not be ours: groups list them in order.
        numbers = [number for group in groups for number in group["params"]]
        saved = {int(number): state for number, state in state_dict["state"].items()}
        loaded = {
            index: self._loaded_state(index, parameter, saved[int(numbers[index])])
            for index, (parameter, _) in enumerate(self._parameters())
            if int(numbers[index]) in saved
        }
        options = [{k: g[k] for k in (*self.defaults, *_NOTES) if k in g} for g in groups]
        for own, new in zip(self.param_groups, options, strict=True):
            self._validate({**own, **new})
        for own, new in zip(self.param_groups, options, strict=True):
            if "lr" in new:
                set_lr(own, float(new.pop("lr")))
            own.update(new)
        self.state = loaded

    def _loaded_state(self, index: int, parameter: Tensor, saved: Mapping[str, Any]) -> dict[str, Any]:
        known = {"step", "master", *self._moments}
        unknown = sorted(set(saved) - known)
        if unknown:
            raise ValueError(
                f"{self._name}.load_state_dict: parameter {index} has unknown entries {', '.join(unknown)}; "
                f"expected {', '.join(sorted(known))}"
            )
        result: dict[str, Any] = {"step": self._counter(int(saved.get("step", 0)), parameter)}
        for name in ("master", *self._moments):
            if saved.get(name) is None:
                continue
            value = tensor(saved[name], dtype="float32", device=parameter.device)
            if value.shape != parameter.shape:
                raise ValueError(
                    f"{self._name}.load_state_dict: {name} of parameter {index} must have shape "
                    f"{parameter.shape}, got {value.shape}"
                )
            result[name] = value
        return result
