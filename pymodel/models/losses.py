"""The losses of classifiers, as transformers defines them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymodel import ops
from pymodel.models.config import PretrainedConfig
from pymodel.models.inputs import class_labels, host_array
from pymodel.tensor import Tensor, tensor, zeros

REGRESSION = "regression"
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"


def text_loss(logits: Tensor, labels: Any, config: PretrainedConfig) -> Tensor:
    """The loss of a classifier of texts, by the `problem_type` of its configuration.

    regression: the mean squared difference. single_label_classification: the cross entropy.
    multi_label_classification: the binary cross entropy of every class by itself, averaged over all.

    Without a `problem_type` one label is a regression, integers are single labels, and other numbers
    several.

    Args:
        logits: (batch, num_labels).
        labels: (batch,) classes or -100; for regression (batch,) or (batch, num_labels) numbers; for
            several labels (batch, num_labels) numbers from 0 to 1.

    Raises: ValueError for labels of another shape or range and for an unknown problem_type.
    """
    values = host_array(labels, "labels")
    problem = config.problem_type or _problem_type(values, config.num_labels)
    batch, count = logits.shape
    if problem == SINGLE_LABEL:
        values = values.reshape(batch) if values.shape == (batch, 1) else values
        targets = class_labels(values, (batch,), count)
        return ops.cross_entropy(logits, tensor(targets, device=logits.device))
    if problem == REGRESSION:
        return _squared_error(logits, _numbers(values, logits, problem))
    if problem == MULTI_LABEL:
        return _binary_cross_entropy(logits, _numbers(values, logits, problem))
    known = f"{REGRESSION}, {SINGLE_LABEL}, {MULTI_LABEL}"
    raise ValueError(f"config.problem_type {problem!r} is unknown; expected one of {known}, or None")


def span_loss(
    start_logits: Tensor, end_logits: Tensor, start_positions: Any, end_positions: Any
) -> Tensor | None:
    """The mean of two cross entropies, of an answer's first token and of its last one.

    Answers beyond the sequence, which was cut short, do not count.

    Args:
        start_logits, end_logits: (batch, sequence).
        start_positions, end_positions: (batch,) integers; None for either gives no loss.

    Raises: ValueError for another shape, TypeError for another type.
    """
    if start_positions is None or end_positions is None:
        return None
    batch, sequence = start_logits.shape
    losses = []
    for logits, name, given in (
        (start_logits, "start_positions", start_positions),
        (end_logits, "end_positions", end_positions),
    ):
        positions = host_array(given, name)
        if positions.shape not in ((batch,), (batch, 1)):
            raise ValueError(f"{name} must have shape ({batch},), got {positions.shape}")
        if positions.dtype.kind not in "iu" and positions.size:
            raise TypeError(f"{name} must be integers, got {positions.dtype}")
        targets = positions.reshape(batch).astype(np.int64).clip(0, sequence)
        losses.append(ops.cross_entropy(logits, tensor(targets, device=logits.device), ignore_index=sequence))
    return (losses[0] + losses[1]) / 2.0


def _problem_type(labels: np.ndarray, num_labels: int) -> str:
    if num_labels == 1:
        return REGRESSION
    return SINGLE_LABEL if labels.dtype.kind in "iu" else MULTI_LABEL


def _squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    return ops.mean(ops.square(ops.cast(logits, "float32") - targets))


def _binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-mean(y log sigmoid(x) + (1 - y) log sigmoid(-x)); a sigmoid is a softmax of x beside 0, which
    is computed without overflow."""
    x = ops.cast(logits, "float32")
    pairs = ops.log_softmax(ops.stack([x, zeros(x.shape, device=x.device)], -1), -1)
    weights = ops.stack([targets, 1.0 - targets], -1)
    return -ops.sum(pairs * weights) / float(max(x.numel(), 1))


def _numbers(values: np.ndarray, logits: Tensor, problem: str) -> Tensor:
    """Labels as float32 of the logits' shape; a single column may be left out."""
    shape = logits.shape
    if values.shape != shape and not (shape[1] == 1 and values.shape == shape[:1]):
        raise ValueError(f"labels for {problem} must have the shape {shape} of logits, got {values.shape}")
    return tensor(values.reshape(shape), dtype="float32", device=logits.device)
