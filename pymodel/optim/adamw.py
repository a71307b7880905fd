"""Adam with weight decay apart from the gradient (AdamW) or as an L2 penalty (Adam)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymodel import _core
from pymodel.optim.optimizer import GradScale, Optimizer, Update
from pymodel.tensor import Tensor, full, zeros


class Adam(Optimizer):
    """Adam; weight decay is added to the gradient as the derivative of an L2 penalty.

    g = grad + weight_decay * w
    m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g^2
    w = w - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: tensors, (name, tensor) pairs or groups; see `Optimizer`.
        lr: learning rate, a number or (with `capturable`) a tensor; see `Optimizer`.
        betas: (beta1, beta2), decay rates of the running means m and v.
        eps: added to the root of v, which keeps the division finite.
        weight_decay: factor of the penalty's gradient.
        capturable: count the steps on the device, so that a step captured in a graph counts and
            corrects its bias anew at each replay. The graph keeps the addresses of parameters, gradients
            and state: leave gradients in place (`zero_grad(set_to_none=False)`), and capture again
            after `load_state_dict`. Not for parameters on the CPU.

    All parameters are updated by one kernel in one pass over memory.

    Raises: ValueError for options out of range; see `Optimizer`.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980.
    """

    _moments = ("exp_avg", "exp_avg_sq")
    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        capturable: bool = False,
    ) -> None:
        self.capturable = capturable
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _validate(self, group: dict[str, Any]) -> None:
        super()._validate(group)
        betas = group["betas"]
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"{self._name}: betas must be two numbers in [0, 1), got {betas}")

    def _listed(self, params: Any) -> tuple[list[Tensor], list[str]]:
        tensors, names = super()._listed(params)
        if self.capturable and any(parameter.device == "cpu" for parameter in tensors):
            raise ValueError(f"{self._name}: capturable is for parameters on a device, got one on the CPU")
        return tensors, names

    def _counter(self, step: int, parameter: Tensor) -> Any:
        return full((), step, "int64", parameter.device) if self.capturable else step

    def _update(self, updates: list[Update], scale: GradScale) -> None:
        parameters, gradients, means, squares, masters = [], [], [], [], []
        settings, rates = [], []
        read: dict[str, Any] | None = None  # the group whose options were read: mostly the next one's too
        for parameter, gradient, group, state in updates:
            for name in self._moments:
                if name not in state:
                    state[name] = zeros(parameter.shape, "float32", parameter.device)
            parameters.append(parameter._array)
            gradients.append(gradient._array)
            means.append(state["exp_avg"]._array)
            squares.append(state["exp_avg_sq"]._array)
            masters.append(state["master"]._array if "master" in state else None)
            if group is not read:
                lr, rate = self._rate(group)
                if rate is not None and not self.capturable:
                    raise ValueError(f"{self._name}: an lr on a device needs capturable=True")
                options = (lr, *group["betas"], group["eps"], group["weight_decay"], self._decoupled)
                read = group
            rates.append(rate)
            settings.append((*options, 0 if self.capturable else state["step"] + 1))
        _core.adamw(
            parameters,
            gradients,
            means,
            squares,
            masters,
            settings,
            *scale,
            [update.state["step"]._array for update in updates] if self.capturable else [],
            rates if self.capturable else [],
        )
        if not self.capturable:
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
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, capturable=capturable)
