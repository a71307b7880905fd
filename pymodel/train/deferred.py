"""Optimizer steps on a device whose outcome the host learns later, so that it never waits for the newest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pymodel import ops
from pymodel.cuda import Event
from pymodel.optim import Optimizer, clip_coefficient, grad_norm
from pymodel.tensor import Tensor, full
from pymodel.train.optimization import Outcome, weighted_sum


class DeferredStep:
    """As `guarded_step`: clips by the global norm and updates, unless a loss or a gradient is not finite.

    The device decides that by itself: a factor that is not a number makes the optimizer leave the step
    out. The losses and the norm travel to pinned memory of the host meanwhile.

    Args:
        optimizer: whose parameters hold the gradients, which are cleared; all on one device.
        losses: of the step's batches, scalars on that device, at least one.
        weights: of the batches; the loss of the step is the weighted sum.
        max_grad_norm: as for `guarded_step`.
    """

    def __init__(
        self, optimizer: Optimizer, losses: Sequence[Tensor], weights: Sequence[float], max_grad_norm: float
    ) -> None:
        self._weights = weights
        norm = grad_norm(p for group in optimizer.param_groups for p in group["params"])
        if not isinstance(norm, Tensor):  # there is no gradient at all
            norm = full((), norm, "float32", losses[0].device)
        scale = clip_coefficient(norm, max_grad_norm or math.inf)
        for loss in losses:
            scale = scale + loss * 0.0  # NaN for a loss of infinity or NaN
        optimizer.step(grad_scale=scale)
        optimizer.zero_grad()
        self._values = ops.stack([*losses, norm]).to("cpu", non_blocking=True)
        self._arrived = Event(norm.device)
        self._arrived.record()

    def read(self) -> Outcome:
        """The loss and the norm before clipping, as `guarded_step` gives it; waits for them.

        Raises: what kernels found invalid, such as ValueError for a target that is no class.
        """
        self._arrived.synchronize()
        *losses, norm = self._values.tolist()
        loss = weighted_sum(losses, self._weights)
        return Outcome(loss, norm if math.isfinite(norm) and math.isfinite(loss) else None)
