"""Adam with weight decay apart from the gradient (AdamW) or as an L2 penalty (Adam)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymodel import _core
from pymodel.optim.optimizer import Optimizer, Update
from pymodel.tensor import zeros


class Adam(Optimizer):
    """Adam; weight decay is added to the gradient as the derivative of an L2 penalty.

    g = grad + weight_decay * w
    m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g^2
    w = w - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: tensors, (name, tensor) pairs or groups; see `Optimizer`.
        lr: learning rate.
        betas: (beta1, beta2), decay rates of the running means m and v.
        eps: added to the root of v, which keeps the division finite.
        weight_decay: factor of the penalty's gradient.

    All parameters are updated by one kernel in one pass over memory.

    Raises: ValueError for options out of range; see `Optimizer`.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980.
    """

    _moments = ("exp_avg", "exp_avg_sq")
    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _validate(self, group: dict[str, Any]) -> None:
        super()._validate(group)
        betas = group["betas"]
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"{self._name}: betas must be two numbers in [0, 1), got {betas}")

    def _update(self, updates: list[Update], grad_scale: float) -> None:
        settings = []
        for parameter, _, group, state in updates:
            for name in self._moments:
                if name not in state:
                    state[name] = zeros(parameter.shape, "float32", parameter.device)
            options = (group["lr"], *group["betas"], group["eps"], group["weight_decay"])
            settings.append((*options, state["step"] + 1, self._decoupled))
        _core.adamw(
            [update.parameter._array for update in updates],
            [update.gradient._array for update in updates],
            [update.state["exp_avg"]._array for update in updates],
            [update.state["exp_avg_sq"]._array for update in updates],
            [update.array("master") for update in updates],
            settings,
            grad_scale,
        )
        for update in updates:
            update.state["step"] += 1


class AdamW(Adam):
    """Adam with decoupled weight decay: w = w * (1 - lr * weight_decay) before each step of `Adam`.

    Args, raises: as `Adam`.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
