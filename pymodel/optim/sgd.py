"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymodel import _core
from pymodel.optim.optimizer import GradScale, Optimizer, Update
from pymodel.tensor import Tensor, zeros


class SGD(Optimizer):
    """Stochastic gradient descent, plain, with momentum or with Nesterov's momentum.

    g = grad + weight_decay * w
    b = momentum * b + (1 - dampening) * g      (b = g at the first step)
    w = w - lr * d,  where d is g + momentum * b (Nesterov), b (momentum) or g (momentum = 0)

    Args:
        params: tensors, (name, tensor) pairs or groups; see `Optimizer`.
        lr: learning rate, a number or a tensor; see `Optimizer`.
        momentum: how much of the last direction is kept, 0 for none.
        dampening: how much of the gradient the momentum leaves out.
        weight_decay: factor of an L2 penalty's gradient.
        nesterov: look ahead along the momentum; needs momentum and no dampening.

    Raises: ValueError for options out of range; see `Optimizer`.

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in
    deep learning", ICML 2013.
    """

    _moments = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **options})

    def _validate(self, group: dict[str, Any]) -> None:
        super()._validate(group)
        if not group["momentum"] >= 0:
            raise ValueError(f"{self._name}: momentum must be at least 0, got {group['momentum']}")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(f"{self._name}: nesterov needs momentum above 0 and dampening 0")

    def _update(self, updates: list[Update], scale: GradScale) -> None:
        settings: list[tuple[float, float, float, float, bool]] = []
        buffers: list[Tensor | None] = []
        rates: list[_core.Array | None] = []
        for parameter, _, group, state in updates:
            momentum, buffer = group["momentum"], state.get("momentum_buffer")
            weight = 1.0 if buffer is None else 1.0 - group["dampening"]
            if buffer is None and momentum != 0:
                buffer = zeros(parameter.shape, "float32", parameter.device)
            buffers.append(buffer if momentum != 0 else None)
            lr, rate = self._rate(group)
            rates.append(rate)
            settings.append((lr, momentum, weight, group["weight_decay"], group["nesterov"]))
        _core.sgd(
            [update.parameter._array for update in updates],
            [update.gradient._array for update in updates],
            [None if buffer is None else buffer._array for buffer in buffers],
            [update.array("master") for update in updates],
            settings,
            *scale,
            rates,
        )
        for update, buffer in zip(updates, buffers, strict=True):
            update.state["step"] += 1
            if buffer is not None:
                update.state["momentum_buffer"] = buffer
