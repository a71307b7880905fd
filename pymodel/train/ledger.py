"""What came of the steps: sums for the log, and when to give up."""

from __future__ import annotations

import math
from collections import deque

from pymodel.errors import TrainingError
from pymodel.train.deferred import DeferredStep
from pymodel.train.optimization import Outcome
from pymodel.train.state import TrainerState


class StepLedger:
    """Takes in the outcome of each step, on a device one step late: the host waits for no step that the
    device has just been given.

    Args:
        state: of the run, whose sums and counts of skipped steps it keeps.
        max_skipped_steps: so many in a row end the run.

    Attributes:
        last_loss: of the newest step whose outcome is known, nan before the first.
        latest: `grad_norm` and `learning_rate` of the newest step that was not skipped.
    """

    def __init__(self, state: TrainerState, max_skipped_steps: int) -> None:
        self._state, self._max_skipped_steps = state, max_skipped_steps
        self._pending: deque[tuple[int, float, Outcome | DeferredStep]] = deque()
        self.last_loss = math.nan
        self.latest: dict[str, float] = {}

    def enter(self, step: int, learning_rate: float, outcome: Outcome | DeferredStep) -> None:
        """Notes a step that was just done, or given to the device.

        Raises: as `settle`.
        """
        self._pending.append((step, learning_rate, outcome))
        self.settle(keep=1 if isinstance(outcome, DeferredStep) else 0)

    def settle(self, keep: int = 0) -> None:
        """Takes in all outcomes but the newest `keep`; waits for those that are not there yet.

        Raises: TrainingError: too many steps in a row whose loss or gradient is not finite.
        """
        state = self._state
        while len(self._pending) > keep:
            step, learning_rate, outcome = self._pending.popleft()
            loss, norm = outcome.read() if isinstance(outcome, DeferredStep) else outcome
            self.last_loss = loss
            if norm is None:
                self._skipped(step, loss)
                continue
            state.skipped_in_a_row = 0
            state.loss_sum += loss
            state.window_loss_sum += loss
            state.window_steps += 1
            self.latest = {"grad_norm": norm, "learning_rate": learning_rate}

    def _skipped(self, step: int, loss: float) -> None:
        state = self._state
        state.skipped_steps += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row >= self._max_skipped_steps:
            what = "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"
            raise TrainingError(
                f"step {step}: the {what}, in {state.skipped_in_a_row} steps in a row; "
                "lower learning_rate, raise warmup_steps, or check that the labels are not all -100"
            )
