"""From arguments to an optimizer, and the step that refuses to take in what is not a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pymodel.nn import Module
from pymodel.optim import AdamW, Optimizer, clip_coefficient, grad_norm
from pymodel.train.arguments import TrainingArguments


class Outcome(NamedTuple):
    """What came of an optimizer step: its loss, and the gradient norm or None when it was left out."""

    loss: float
    norm: float | None


def weighted_sum(losses: Sequence[float], weights: Sequence[float]) -> float:
    """The loss of a step from those of its batches; nan where there is no batch with a target."""
    return sum((w * loss for loss, w in zip(losses, weights, strict=True)), 0.0) if losses else math.nan


def create_optimizer(model: Module, args: TrainingArguments) -> AdamW:
    """AdamW with weight decay on matrices only.

    Biases and the scales of normalisations have one dimension: pulling them to zero does not make the model
    simpler. Source: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training",
    section 4.1.
    """
    parameters = [parameter for _, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": args.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        # On a device the host does not know at once whether a step was left out.
        capturable=any(p.device != "cpu" for p in parameters),
    )


def guarded_step(optimizer: Optimizer, loss: float, max_grad_norm: float) -> float | None:
    """Clips by the global norm and updates, unless the loss or a gradient is not finite.

    The gradients are read once for their norm; scaling them is part of the update and costs no pass over
    memory. They are cleared in either case.

    Args:
        optimizer: whose parameters hold the gradients.
        loss: of the step; nan also stands for a step without a target.
        max_grad_norm: gradients g become g * min(1, max_grad_norm / ||g||); 0 leaves them alone.

    Returns:
        The norm before clipping, None when nothing was updated.
    """
    if not math.isfinite(loss):
        optimizer.zero_grad()
        return None
    norm = float(grad_norm(p for group in optimizer.param_groups for p in group["params"]))
    if math.isfinite(norm):
        optimizer.step(grad_scale=clip_coefficient(norm, max_grad_norm) if max_grad_norm else 1.0)
    optimizer.zero_grad()
    return norm if math.isfinite(norm) else None
