"""Learning-rate schedules under the names that transformers gives them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from pymodel.optim.optimizer import Optimizer, set_lr

# Each function takes the number of finished steps and returns the factor on the learning rate.
Factor = Callable[[int], float]


class LRScheduler:
    """Sets the learning rate of every group to its initial one times a function of the step.

    lr = initial_lr * factor(number of calls of `step`)

    Call `step()` after each `optimizer.step()`. A group's initial rate is its "lr" when the first
    scheduler is made, kept as "initial_lr".

    Args:
        optimizer: whose groups are set, at once and at every step.
        factor: from the number of finished steps to the factor.
    """

    def __init__(self, optimizer: Optimizer, factor: Factor) -> None:
        self.optimizer = optimizer
        self.factor = factor
        self.last_epoch = 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._apply()

    def step(self) -> None:
        """Moves on by one step."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The current learning rate of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to continue; numbers only."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a `state_dict`, and sets the learning rates of that step.

        Raises: ValueError when the state is of another number of groups.
        """
        rates = list(state_dict["base_lrs"])
        if len(rates) != len(self.optimizer.param_groups):
            raise ValueError(
                f"LRScheduler.load_state_dict: the state is of {len(rates)} parameter groups, "
                f"the optimizer has {len(self.optimizer.param_groups)}"
            )
        self.base_lrs = rates
        self.last_epoch = int(state_dict["last_epoch"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate
        self._apply()

    def _apply(self) -> None:
        factor = self.factor(self.last_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            set_lr(group, rate * factor)


# ------------------------------------------------------------------------------------------------
# The schedules. A function takes what its arguments name: `warmup` and `total` in steps, the
# `initial_lr`, and options with defaults. After warm-up, `progress` runs from 0 to 1.


def _with_warmup(warmup: int, after: Factor) -> Factor:
    """Rises linearly from 0 to 1 over the warm-up steps, then follows `after`."""
    return lambda step: step / warmup if step < warmup else after(step)


def _progress(step: int, warmup: int, total: int) -> float:
    return (step - warmup) / max(1, total - warmup)


def _constant() -> Factor:
    return lambda step: 1.0


def _constant_with_warmup(warmup: int) -> Factor:
    return _with_warmup(warmup, lambda step: 1.0)


def _linear(warmup: int, total: int) -> Factor:
    return _with_warmup(warmup, lambda step: max(0.0, 1.0 - _progress(step, warmup, total)))


def _cosine(warmup: int, total: int, num_cycles: float = 0.5) -> Factor:
    def after(step: int) -> float:
        angle = 2.0 * math.pi * num_cycles * _progress(step, warmup, total)
        return max(0.0, 0.5 * (1.0 + math.cos(angle)))

    return _with_warmup(warmup, after)


def _cosine_with_restarts(warmup: int, total: int, num_cycles: int = 1) -> Factor:
    def after(step: int) -> float:
        progress = _progress(step, warmup, total)
        if progress >= 1.0:
            return 0.0
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (num_cycles * progress % 1.0))))

    return _with_warmup(warmup, after)


def _cosine_with_min_lr(
    warmup: int,
    total: int,
    initial_lr: float,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Factor:
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError("cosine_with_min_lr: give exactly one of min_lr and min_lr_rate")
    if min_lr is not None and not initial_lr > min_lr:
        raise ValueError(f"cosine_with_min_lr: min_lr must be below the rate {initial_lr}, got {min_lr}")
    floor = min_lr_rate or 0.0 if min_lr is None else min_lr / initial_lr
    cosine = _cosine(0, total - warmup, num_cycles)
    return _with_warmup(warmup, lambda step: floor + (1.0 - floor) * cosine(step - warmup))


def _polynomial(
    warmup: int, total: int, initial_lr: float, lr_end: float = 1e-7, power: float = 1.0
) -> Factor:
    if not initial_lr > lr_end:
        raise ValueError(f"polynomial: lr_end must be below the rate {initial_lr}, got {lr_end}")

    def after(step: int) -> float:
        if step > total:
            return lr_end / initial_lr
        remaining = 1.0 - _progress(step, warmup, total)
        return lr_end / initial_lr + (1.0 - lr_end / initial_lr) * math.pow(remaining, power)

    return _with_warmup(warmup, after)


def _inverse_sqrt(warmup: int, timescale: int | None = None) -> Factor:
    scale = timescale or warmup or 10_000
    return _with_warmup(warmup, lambda step: 1.0 / math.sqrt((step + scale - warmup) / scale))


_SCHEDULES: dict[str, Callable[..., Factor]] = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "polynomial": _polynomial,
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "inverse_sqrt": _inverse_sqrt,
}
SCHEDULES = tuple(_SCHEDULES)


def get_scheduler(
    name: str,
    optimizer: Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: dict[str, Any] | None = None,
) -> LRScheduler:
    """The schedule of this name, started.

    After a linear rise over the warm-up steps, with p from 0 to 1 over the remaining ones, the
    factor on the learning rate is
      constant, constant_with_warmup   1
      linear                           1 - p
      cosine                           (1 + cos(2 pi num_cycles p)) / 2, num_cycles 0.5
      cosine_with_restarts             the same half wave num_cycles times, num_cycles 1
      cosine_with_min_lr               cosine down to min_lr (absolute) or min_lr_rate (a factor)
      polynomial                       (1 - p)^power, power 1, down to the rate lr_end, 1e-7
      inverse_sqrt                     sqrt(timescale / (timescale + steps since warm-up)),
                                       timescale the warm-up steps, or 10000 without

    Args:
        name: one of `SCHEDULES`. "polynomial" and "cosine_with_min_lr" end at an absolute rate and
            take the first group's as the initial one.
        optimizer: whose learning rates are set.
        num_warmup_steps: all but "constant" need it.
        num_training_steps: the constant ones and "inverse_sqrt" do without.
        scheduler_specific_kwargs: num_cycles, power and so on, as above.

    Raises: ValueError for an unknown name, a count that is missing or negative, or options that the
    schedule does not have.
    """
    if name not in _SCHEDULES:
        raise ValueError(f"get_scheduler: unknown name {name!r}; expected one of {', '.join(SCHEDULES)}")
    function = _SCHEDULES[name]
    group = optimizer.param_groups[0]
    given = {
        "warmup": num_warmup_steps,
        "total": num_training_steps,
        "initial_lr": group.get("initial_lr", float(group["lr"])),
    }
    takes = inspect.signature(function).parameters
    for argument, label in (("warmup", "num_warmup_steps"), ("total", "num_training_steps")):
        count = given[argument]
        if argument in takes and (count is None or count < 0):
            raise ValueError(f"get_scheduler: {name!r} needs {label} of at least 0, got {count}")
    options = scheduler_specific_kwargs or {}
    known = [argument for argument in takes if argument not in given]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"get_scheduler: {name!r} has no option {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(map(repr, known)) or 'none'}"
        )
    arguments = {argument: value for argument, value in given.items() if argument in takes}
    return LRScheduler(optimizer, function(**arguments, **options))
